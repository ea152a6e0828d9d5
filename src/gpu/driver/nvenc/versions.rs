//! What bindgen cannot read in the header: structure versions (function-like macros) and GUIDs (`static const`). A test below reads the header's own
//! lines and compares.

use super::bindings::*;

/// `NVENCAPI_VERSION`: the interface that is asked for. 11.1 is in every driver from 470.57 on.
pub const API: u32 = NVENCAPI_MAJOR_VERSION | NVENCAPI_MINOR_VERSION << 24;

/// `NVENCAPI_STRUCT_VERSION`.
const fn version(n: u32) -> u32 {
    API | n << 16 | 0x7 << 28
}

/// Of structures that the header marks in the topmost bit.
const fn marked(n: u32) -> u32 {
    version(n) | 1 << 31
}

macro_rules! versions {
    ($($name:ident = $value:expr;)*) => {
        $(pub const $name: u32 = $value;)*
        #[cfg(test)]
        const VERSIONS: &[(&str, u32)] = &[$((stringify!($name), $name)),*];
    };
}

versions! {
    NV_ENC_CAPS_PARAM_VER = version(1);
    NV_ENC_CONFIG_VER = marked(7);
    NV_ENC_CREATE_BITSTREAM_BUFFER_VER = version(1);
    NV_ENC_INITIALIZE_PARAMS_VER = marked(5);
    NV_ENC_LOCK_BITSTREAM_VER = version(1);
    NV_ENC_MAP_INPUT_RESOURCE_VER = version(4);
    NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER = version(1);
    NV_ENC_PIC_PARAMS_VER = marked(4);
    NV_ENC_PRESET_CONFIG_VER = marked(4);
    NV_ENC_REGISTER_RESOURCE_VER = version(3);
    NV_ENCODE_API_FUNCTION_LIST_VER = version(2);
}

macro_rules! guids {
    ($($name:ident = $a:expr, $b:expr, $c:expr, $d:expr;)*) => {
        $(pub const $name: GUID = GUID { Data1: $a, Data2: $b, Data3: $c, Data4: $d };)*
        #[cfg(test)]
        const GUIDS: &[(&str, GUID)] = &[$((stringify!($name), $name)),*];
    };
}

guids! {
    NV_ENC_CODEC_H264_GUID = 0x6bc82762, 0x4e63, 0x4ca4, [0xaa, 0x85, 0x1e, 0x50, 0xf3, 0x21, 0xf6, 0xbf];
    NV_ENC_PRESET_P1_GUID = 0xfc0a8d3e, 0x45f8, 0x4cf8, [0x80, 0xc7, 0x29, 0x88, 0x71, 0x59, 0x0e, 0xbf];
    NV_ENC_PRESET_P2_GUID = 0xf581cfb8, 0x88d6, 0x4381, [0x93, 0xf0, 0xdf, 0x13, 0xf9, 0xc2, 0x7d, 0xab];
    NV_ENC_PRESET_P3_GUID = 0x36850110, 0x3a07, 0x441f, [0x94, 0xd5, 0x36, 0x70, 0x63, 0x1f, 0x91, 0xf6];
    NV_ENC_PRESET_P4_GUID = 0x90a7b826, 0xdf06, 0x4862, [0xb9, 0xd2, 0xcd, 0x6d, 0x73, 0xa0, 0x86, 0x81];
    NV_ENC_PRESET_P5_GUID = 0x21c6e6b4, 0x297a, 0x4cba, [0x99, 0x8f, 0xb6, 0xcb, 0xde, 0x72, 0xad, 0xe3];
    NV_ENC_PRESET_P6_GUID = 0x8e75c279, 0x6299, 0x4ab6, [0x83, 0x02, 0x0b, 0x21, 0x5a, 0x33, 0x5c, 0xf5];
    NV_ENC_PRESET_P7_GUID = 0x84848c12, 0x6f71, 0x4c13, [0x93, 0x1b, 0x53, 0xe2, 0x83, 0xf5, 0x79, 0x74];
    NV_ENC_PRESET_DEFAULT_GUID = 0xb2dfb705, 0x4ebd, 0x4c49, [0x9b, 0x5f, 0x24, 0xa7, 0x77, 0xd3, 0xe5, 0x87];
}

/// P1 to P7.
pub const PRESETS: [GUID; 7] = [
    NV_ENC_PRESET_P1_GUID,
    NV_ENC_PRESET_P2_GUID,
    NV_ENC_PRESET_P3_GUID,
    NV_ENC_PRESET_P4_GUID,
    NV_ENC_PRESET_P5_GUID,
    NV_ENC_PRESET_P6_GUID,
    NV_ENC_PRESET_P7_GUID,
];

/// Equal in every byte.
pub fn same(a: &GUID, b: &GUID) -> bool {
    (a.Data1, a.Data2, a.Data3, a.Data4) == (b.Data1, b.Data2, b.Data3, b.Data4)
}

// Sizes by a C compiler from the same header, on x86-64 and aarch64 alike (LP64): a binding with a field too few would let the driver write past it.
const _: () = {
    assert!(size_of::<NV_ENC_CAPS_PARAM>() == 256);
    assert!(size_of::<NV_ENC_RC_PARAMS>() == 128);
    assert!(size_of::<NV_ENC_CONFIG>() == 3584);
    assert!(size_of::<NV_ENC_PRESET_CONFIG>() == 5128);
    assert!(size_of::<NV_ENC_PIC_PARAMS>() == 3344);
    assert!(size_of::<NV_ENC_LOCK_BITSTREAM>() == 1544);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/nvidia/nvEncodeAPI.h");
        std::fs::read_to_string(path).unwrap()
    }

    fn number(text: &str) -> u32 {
        let text = text.trim().trim_end_matches('u');
        text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16)).unwrap()
    }

    /// What stands behind `#define NAME`.
    fn define<'a>(header: &'a str, name: &str) -> &'a str {
        let found = header.lines().find_map(|l| l.strip_prefix("#define ")?.strip_prefix(name)?.strip_prefix([' ', '(']));
        found.unwrap_or_else(|| panic!("no #define {name}")).trim()
    }

    #[test]
    fn structure_versions_are_the_headers() {
        let header = header();
        let (major, minor) = ("NVENCAPI_MAJOR_VERSION", "NVENCAPI_MINOR_VERSION");
        let api = number(define(&header, major)) | number(define(&header, minor)) << 24;
        assert_eq!(api, API);
        assert_eq!(define(&header, "NVENCAPI_VERSION"), format!("({major} | ({minor} << 24))"));
        let rule = "ver) ((uint32_t)NVENCAPI_VERSION | ((ver)<<16) | (0x7 << 28))";
        assert_eq!(define(&header, "NVENCAPI_STRUCT_VERSION"), rule);
        for (name, value) in VERSIONS {
            let text = define(&header, name);
            let n = text.split("NVENCAPI_STRUCT_VERSION(").nth(1).and_then(|t| t.split(')').next()).unwrap();
            let mark = if text.contains("1u<<31") { 1 << 31 } else { 0 };
            assert_eq!(*value, api | number(n) << 16 | 0x7 << 28 | mark, "{name}: {text}");
        }
    }

    #[test]
    fn guids_are_the_headers() {
        let header = header();
        for (name, value) in GUIDS {
            let body = header.split(&format!("GUID {name}")).chain(header.split(&format!("GUID  {name}"))).find_map(|after| {
                let body = after.trim_start().strip_prefix('=')?;
                body.split(';').next()
            });
            let body = body.unwrap_or_else(|| panic!("no {name}"));
            let numbers: Vec<u32> =
                body.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).map(number).collect();
            let mut ours = vec![value.Data1, value.Data2.into(), value.Data3.into()];
            ours.extend(value.Data4.map(u32::from));
            assert_eq!(numbers, ours, "{name}");
        }
    }
}
