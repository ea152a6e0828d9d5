//! Whom the worker tells what it can take.

use serde::{Deserialize, Serialize};

/// Whom the worker tells what it can take, beside those who ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportSettings {
    /// Where reports are sent, `https://...`. Empty: nowhere.
    pub url: String,
    /// File with the secret that signs them, at least 16 bytes. Empty: the variable `WEIR_REPORT_SECRET` holds it.
    pub secret_file: String,
    /// File with PEM certificates of the authorities that may vouch for the receiver, instead of the system's. Empty: the system's.
    pub ca_file: String,
    /// Allow `http://` to another machine. Default no.
    pub allow_http: bool,
    /// Milliseconds from one report to the next, 200 to 5000. Default 1000.
    pub interval_ms: u32,
    /// Milliseconds for one, connection and answer together, 100 to 5000. Default 1000.
    pub deadline_ms: u32,
    /// `on`, `off`, `auto`: tell Agones' sidecar; `auto` does where there is one. Default `auto`.
    pub agones: AgonesSetting,
}

/// Whether Agones' sidecar is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgonesSetting {
    /// Where `AGONES_SDK_HTTP_PORT` says that there is one.
    #[default]
    Auto,
    /// At that port, or Agones' default one.
    On,
    /// No.
    Off,
}

/// `sdkServer.httpPort` of a GameServer by default.
const AGONES_PORT: u16 = 9358;

impl AgonesSetting {
    /// The sidecar's port, by what the environment says.
    ///
    /// # Errors
    /// The environment names no port.
    pub fn port(self, variable: Option<&str>) -> Result<Option<u16>, String> {
        let named =
            variable.map(|v| v.parse().map_err(|_| format!("AGONES_SDK_HTTP_PORT is {v:?}, must be a port"))).transpose();
        match self {
            Self::Off => Ok(None),
            Self::Auto => named,
            Self::On => named.map(|port| port.or(Some(AGONES_PORT))),
        }
    }
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret_file: String::new(),
            ca_file: String::new(),
            allow_http: false,
            interval_ms: 1000,
            deadline_ms: 1000,
            agones: AgonesSetting::Auto,
        }
    }
}

impl ReportSettings {
    /// Checks all ranges.
    ///
    /// # Errors
    /// What is outside.
    pub fn check(&self) -> Result<(), String> {
        // Half of the TTL at the most: one report may be lost.
        let ranges = [("interval_ms", self.interval_ms, 200, 5000), ("deadline_ms", self.deadline_ms, 100, 5000)];
        match ranges.into_iter().find(|&(_, value, low, high)| !(low..=high).contains(&value)) {
            Some((name, value, low, high)) => Err(format!("report.{name} is {value}, must be {low} to {high}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_is_told_where_there_is_one_or_where_that_is_wanted() {
        use AgonesSetting::{Auto, Off, On};
        let port = |setting: AgonesSetting, variable| setting.port(variable).unwrap();
        assert_eq!([Auto, On, Off].map(|s| port(s, Some("1234"))), [Some(1234), Some(1234), None]);
        assert_eq!([Auto, On, Off].map(|s| port(s, None)), [None, Some(9358), None]);
        assert!(Auto.port(Some("sidecar")).unwrap_err().contains("AGONES_SDK_HTTP_PORT"));
        assert_eq!(Off.port(Some("sidecar")), Ok(None), "who does not ask is not bothered");
    }

    #[test]
    fn two_reports_fit_into_a_ttl() {
        assert_eq!(ReportSettings::default().check(), Ok(()));
        let slow = ReportSettings { interval_ms: 5001, ..ReportSettings::default() };
        assert_eq!(slow.check().unwrap_err(), "report.interval_ms is 5001, must be 200 to 5000");
        assert!(u64::from(2 * 5000u32) <= crate::logic::capacity::TTL_MS);
    }
}
