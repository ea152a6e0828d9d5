//! Opening the driver's libraries at run time, and saying exactly what of one is missing.

use std::error::Error as _;
use std::os::raw::c_void;

use weir::logic::gpu::Library;

/// A library and its state. It stays loaded for the life of the process: drivers start threads that outlive the handle.
pub fn open(name: &str, functions: &[&str]) -> (Library, Option<&'static libloading::Library>) {
    // SAFETY: loading runs the library's initialisers. This process exists to take that risk: the supervisor never does.
    let library: &'static libloading::Library = match unsafe { libloading::Library::new(name) } {
        Ok(library) => Box::leak(Box::new(library)),
        Err(e) => {
            let reason = reason(&e);
            // dlopen(3) has one error for all; of a file that is there and cannot be loaded the text says something else.
            let missing = reason.contains(name) && reason.contains("No such file");
            return (if missing { Library::Missing { reason } } else { Library::Broken { reason } }, None);
        }
    };
    match lacks(library, functions) {
        Some(reason) => (Library::Broken { reason }, None),
        None => (Library::Loaded, Some(library)),
    }
}

/// The functions that a library does not have, as a text.
pub fn lacks(library: &libloading::Library, functions: &[&str]) -> Option<String> {
    // SAFETY: the symbol's address is looked at, never called or read through.
    let missing: Vec<&str> =
        functions.iter().copied().filter(|f| unsafe { library.get::<*const c_void>(f.as_bytes()) }.is_err()).collect();
    (!missing.is_empty()).then(|| format!("it lacks {}", missing.join(", ")))
}

/// What the loader says.
fn reason(error: &libloading::Error) -> String {
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_an_unloadable_one_and_a_missing_function_are_told_apart() {
        let (state, handle) = open("libweir-does-not-exist.so.1", &[]);
        assert!(matches!(&state, Library::Missing { reason } if reason.contains("libweir-does-not-exist")), "{state:?}");
        assert!(handle.is_none());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no library").unwrap();
        let (state, _) = open(file.path().to_str().unwrap(), &[]);
        assert!(matches!(&state, Library::Broken { .. }), "{state:?}");
        let (state, _) = open("libc.so.6", &["malloc", "nvEncNothing"]);
        assert_eq!(state, Library::Broken { reason: "it lacks nvEncNothing".into() });
        assert!(open("libc.so.6", &["malloc"]).0.is_loaded());
    }
}
