//! What GStreamer offers on this machine, against what the templates need.

use std::collections::BTreeMap;

use gstreamer::prelude::*;
use gstreamer::{self as gst, ElementFactory};
use weir::link::wire::{Element, Inventory};
use weir::logic::recipe::{self, Decoders};
use weir::logic::template::Template;

/// GStreamer's version: `1.22.0`.
pub fn version() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("{major}.{minor}.{micro}")
}

/// Looks at every element that a template names, once each.
pub fn take() -> Inventory {
    let mut elements: BTreeMap<&str, Element> = BTreeMap::new();
    for template in recipe::ALL {
        let written = template.elements().unwrap_or_default();
        for need in template.needs() {
            let element = elements.entry(need.factory).or_insert_with(|| Element {
                name: need.factory.into(),
                present: false,
                missing_properties: Vec::new(),
                package: need.package.into(),
                role: template.role().into(),
            });
            // Making one is the only sure answer: a plugin file may be there and its libraries not.
            let Some(made) = ElementFactory::find(need.factory).and_then(|f| f.create().build().ok()) else { continue };
            element.present = true;
            let set = written.iter().filter(|e| e.factory == need.factory).flat_map(|e| &e.properties);
            for property in set.filter(|p| made.find_property(p).is_none()) {
                if !element.missing_properties.contains(property) {
                    element.missing_properties.push(property.clone());
                }
            }
        }
    }
    Inventory { gstreamer: version(), elements: elements.into_values().collect() }
}

/// What NVDEC decodes here beside H.264: GStreamer registers a decoder for what the driver says that the device has.
pub fn device_decoders() -> Decoders {
    let has = |template: Template| template.needs().iter().all(|need| ElementFactory::find(need.factory).is_some());
    Decoders { hevc: has(recipe::DECODE_HEVC_NV), av1: has(recipe::DECODE_AV1_NV) }
}

/// GStreamer's plugin for NVIDIA's GPUs.
const DEVICE_PLUGIN: &str = "nvcodec";

/// Loads every plugin that the templates need, so that starting a stream opens no file. That of a GPU only where one is used: loading it opens the
/// device, and takes seconds.
pub fn load(on_gpu: bool) {
    for need in recipe::ALL.iter().flat_map(Template::needs) {
        let factory = ElementFactory::find(need.factory);
        if let Some(factory) = factory.filter(|f| on_gpu || f.plugin_name().as_deref() != Some(DEVICE_PLUGIN)) {
            // What cannot be loaded is told when a plan asks for it.
            let _ = factory.load();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_and_property_of_the_templates_exists() {
        gst::init().unwrap();
        // Those of a GPU are there where its driver is.
        for element in take().elements.into_iter().filter(|e| !e.role.starts_with("nvidia")) {
            assert!(element.present, "{element:?}");
            assert!(element.missing_properties.is_empty(), "{element:?}");
        }
    }
}
