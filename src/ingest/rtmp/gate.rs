//! Counts connections, in all and per address, and refuses the next one over a limit. Knows no sockets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::Error;
use crate::ingest::household;

/// The counter.
#[derive(Debug)]
pub(super) struct Gate {
    total: u32,
    per_address: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Gate {
    pub(super) fn new(total: u32, per_address: u32) -> Arc<Self> {
        Arc::new(Self { total, per_address, open: Mutex::default() })
    }

    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Error> {
        let address = household(address);
        // A count cannot be half changed: a poisoned lock is as good as any.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total {
            return Err(Error::Full { limit: self.total });
        }
        let here = open.by_address.entry(address).or_default();
        if *here >= self.per_address {
            return Err(Error::AddressFull { limit: self.per_address });
        }
        *here += 1;
        open.total += 1;
        Ok(Place { gate: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            // The map must not grow with every address that ever came.
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_house_and_a_greedy_address_are_refused_until_somebody_leaves() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(ip("192.0.2.1")).unwrap();
        let _second = gate.enter(ip("192.0.2.1")).unwrap();
        assert!(matches!(gate.enter(ip("192.0.2.1")), Err(Error::AddressFull { limit: 2 })));
        let _third = gate.enter(ip("192.0.2.2")).unwrap();
        assert!(matches!(gate.enter(ip("192.0.2.3")), Err(Error::Full { limit: 3 })));
        drop(first);
        gate.enter(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let gate = Gate::new(1, 1);
        for i in 0..100 {
            gate.enter(std::net::Ipv6Addr::from_bits(i << 64).into()).unwrap();
        }
        assert!(gate.open.lock().unwrap().by_address.is_empty());
    }
}
