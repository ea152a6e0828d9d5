//! Devices go, and come back.

use super::stage::{CLIP, Stage, gaps, own, source_is_whole, story, struck, untouched};
use crate::double::{Double, Fault};
use crate::harness::beside_others;
use crate::harness::clip::Clip;

/// All encoded rungs are shed, the sources go on; when the device is there again, so are the rungs.
#[test]
fn a_device_is_lost_and_back() {
    story("device-lost-and-back", || {
        let _machine = beside_others();
        let clip = Clip { seconds: 30, ..CLIP };
        let mut stage = Stage::open(Double::start(), clip, &[]);
        stage.two(1);
        stage.double.set(Fault::Lost);
        stage.worker.logged("GPU 0 (NVIDIA A10G) is lost");
        stage.measured("weir_gpu_lost", "gpu=\"0\"", |lost| lost == 1);
        stage.lost("anna", 2);
        stage.lost("bert", 2);
        stage.worker.logged("no encoder, the encoded rungs are shed");
        stage.double.lift(Fault::Lost);
        stage.worker.logged("GPU 0 (NVIDIA A10G) answers again");
        stage.measured("weir_gpu_lost", "gpu=\"0\"", |lost| lost == 0);
        stage.worker.logged("the encoder gives pictures again: its rungs are back");
        let seen = stage.finish();
        for seen in seen.values() {
            source_is_whole(seen, &clip);
            let own = own(seen);
            assert!(gaps(seen) <= 2 && own[0] && own[own.len() - 1], "{own:?}");
            assert_eq!(seen.tracks["src"].segments.iter().filter(|s| s.discontinuity).count(), 2);
        }
    });
}

/// The stream that was on it goes on on the other one.
#[test]
fn one_of_two_devices_is_lost() {
    story("one-of-two-devices-lost", || {
        let _machine = beside_others();
        let clip = Clip { seconds: 14, ..CLIP };
        let mut double = Double::start();
        double.set(Fault::Devices { count: 2 });
        let mut stage = Stage::open(double, clip, &["--set", "codec.warm=1"]);
        stage.two(1);
        let pid = stage.worker.codec_pid("anna");
        let sessions = stage.double.state().sessions;
        let device = sessions.iter().find(|s| s.pid == pid && s.width > 0).expect("anna encodes").device;
        stage.double.set(Fault::DeviceLost { device });
        stage.lost("anna", 1);
        stage.worker.logged(&format!("GPU {device} (NVIDIA A10G) is lost"));
        for gpu in [0, 1] {
            stage.measured("weir_gpu_lost", &format!("gpu=\"{gpu}\""), |lost| lost == u64::from(gpu == device));
        }
        stage.assert_well("bert");
        let seen = stage.finish();
        untouched(&seen["bert"], &clip);
        struck(&seen["anna"], &clip);
    });
}
