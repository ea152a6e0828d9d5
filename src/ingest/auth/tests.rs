//! Stores in a row, and what is remembered of households, without sockets.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::ingest::Protocol;
use crate::secret::Secret;

const SIGNING: &str = "[[hmac]]\nid = 'k1'\nsecret = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'\n";

fn asked(peer: &str, name: &str) -> Asked {
    let Name { key, signed, .. } = Name::parse(name).unwrap();
    Asked { protocol: Protocol::Rtmp, peer: peer.parse().unwrap(), app: "live".into(), key, signed }
}

/// Keys from a file with `anna` by `k-anna`, signing keys, and a control plane that is not there.
fn keys(folder: &tempfile::TempDir, webhook: &WebhookSettings, bans: &BanSettings) -> Keys {
    let (file, signing) = (folder.path().join("keys.toml"), folder.path().join("signing.toml"));
    std::fs::write(&file, entry(&"anna".parse().unwrap(), &Secret::new("k-anna"))).unwrap();
    std::fs::write(&signing, SIGNING).unwrap();
    std::fs::set_permissions(&signing, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (file, signing) = (file.display().to_string(), signing.display().to_string());
    Keys::load(&Sources { open: false, file: &file, signing: &signing, webhook, bans, worker: ("w", "r") }).unwrap()
}

fn nowhere() -> WebhookSettings {
    // Bound and let go: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    WebhookSettings { url: format!("http://127.0.0.1:{port}/"), ..WebhookSettings::default() }
}

fn signed(stream: &str, expires: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.toml");
    std::fs::write(&path, SIGNING).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let keys = SigningKeys::read(&path).unwrap();
    keys.sign(&"k1".parse().unwrap(), &stream.parse().unwrap(), expires).unwrap().name.expose().to_owned()
}

fn stream(outcome: Result<Granted, Denied>) -> Result<String, Denied> {
    outcome.map(|g| g.stream.to_string())
}

#[tokio::test]
async fn the_first_store_whose_name_it_is_answers() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, &WebhookSettings::default(), &BanSettings::default());
    let judge = async |name: &str| {
        let asked = asked("127.0.0.1:1", name);
        let judged = stream(keys.judge(&asked).await);
        assert_eq!(keys.known(&asked), Known::Judged(keys.judge(&asked).await), "nothing has to be waited for");
        judged
    };
    let later = unix_seconds() + 3600;
    assert_eq!(judge("k-anna").await, Ok("anna".into()));
    assert_eq!(judge("k-anna?token=t&x=y").await, Ok("anna".into()));
    assert_eq!(judge(&signed("ben", later)).await, Ok("ben".into()));
    assert_eq!(judge("ben").await, Err(Denied::Unknown), "a stream id is no key");
    assert_eq!(judge("anna").await, Err(Denied::Unknown));
    assert_eq!(judge(&signed("ben", later).replace("ben", "carl")).await, Err(Denied::Signature));
    assert!(matches!(judge(&signed("ben", 1)).await, Err(Denied::Expired { .. })));
    assert_eq!((keys.count(), keys.signing_keys()), (Some(1), Some(1)));
    assert_eq!(keys.stats().judged(Judgement::Signature), 3);
}

#[tokio::test]
async fn open_takes_stream_ids_and_nothing_else() {
    let keys = Keys::open();
    assert_eq!(stream(keys.judge(&asked("192.0.2.1:1", "anna?token=t")).await), Ok("anna".into()));
    for n in 0..20 {
        assert_eq!(keys.judge(&asked("192.0.2.1:1", &format!("../{n}"))).await, Err(Denied::Unknown), "and bans nobody");
    }
}

#[tokio::test]
async fn a_household_that_guesses_waits_and_its_streamer_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, &WebhookSettings::default(), &BanSettings { after: 3, ..BanSettings::default() });
    let judge = async |peer: &str, name: &str| stream(keys.judge(&asked(peer, name)).await);
    assert_eq!(judge("192.0.2.1:1", "k-anna").await, Ok("anna".into()));
    for name in ["a", "b", "b", "b", &signed("ben", unix_seconds() + 60).replace("ben", "c")] {
        assert!(judge("192.0.2.1:2", name).await.is_err());
    }
    assert!(matches!(judge("192.0.2.1:3", "d").await, Err(Denied::Banned { seconds: 1..=10 })));
    assert_eq!(judge("192.0.2.1:4", "k-anna").await, Ok("anna".into()), "was right from there before");
    let right = signed("ben", unix_seconds() + 60);
    assert!(matches!(judge("192.0.2.1:5", &right).await, Err(Denied::Banned { .. })), "right, and not known from there");
    assert_eq!(judge("192.0.2.2:1", &right).await, Ok("ben".into()));
    assert_eq!((keys.banned().len(), keys.stats().bans()), (1, 1));
    assert_eq!(keys.lift_bans(Some("192.0.2.1".parse().unwrap())), 1);
    assert_eq!(judge("192.0.2.1:6", &right).await, Ok("ben".into()));
    // Over is no guess.
    for n in 1..10 {
        assert!(matches!(judge("192.0.2.3:1", &signed("ben", n)).await, Err(Denied::Expired { .. })));
    }
    assert_eq!(keys.banned(), []);
}

#[tokio::test]
async fn without_a_control_plane_nobody_new_is_let_in_and_what_is_known_without_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, &nowhere(), &BanSettings { after: 1, ..BanSettings::default() });
    let who = asked("192.0.2.1:1", "somebody");
    assert_eq!(keys.judge(&who).await, Err(Denied::Unavailable));
    assert_eq!(keys.known(&who), Known::NotYet, "and is asked again");
    assert_eq!(keys.judge(&who).await, Err(Denied::Unavailable), "which is no guess");
    assert_eq!(stream(keys.judge(&asked("192.0.2.1:1", "k-anna")).await), Ok("anna".into()));
    assert!(keys.webhook().unwrap().asked(Outcome::Connection) >= 2);
}
