//! A publisher whose key allows it so much.

use super::*;
use crate::logic::pace::Reading;
use crate::logic::verdict::Code;

impl World {
    /// Publishes for so many seconds, while its connection brings so many kbit/s.
    fn publish_at(&mut self, kbps: u64, seconds: std::ops::Range<u64>) {
        for second in seconds {
            self.stream.reading(Reading { received: (second + 1) * kbps * 125, ..Reading::default() });
            self.publish_from(second, 1, 2000);
        }
    }

    fn advised(&mut self) -> bool {
        let now = self.now();
        self.stream.status(None, None, now).health.has(Code::OverAllowance)
    }
}

#[test]
fn who_sends_more_than_his_key_allows_is_told_so_first_and_then_ended() {
    let mut world = World::new(setup());
    world.stream.allow(Some(3000));
    world.configs();
    world.publish_at(4000, 0..20);
    assert!(world.advised() && world.refused.is_none());
    world.publish_at(4000, 20..40);
    assert_eq!(world.refused.as_deref(), Some("4000 kbit/s for 30 s, this stream key allows 3000: set a lower bitrate"));
}

#[test]
fn who_keeps_to_it_goes_on_and_another_publisher_has_his_own() {
    let mut world = World::new(setup());
    world.stream.allow(Some(3000));
    world.configs();
    world.publish_at(2900, 0..40);
    assert!(!world.advised() && world.refused.is_none());
    world.stream.allow(None);
    world.publish_at(9000, 40..80);
    assert!(!world.advised() && world.refused.is_none());
}
