//! NVIDIA's compiler for kernels. It needs no driver and no device.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use libloading::{Library, Symbol};

use crate::nvidia;

/// `nvrtcProgram`: opaque.
type Program = *mut c_void;
type OfProgram<'a, T> = Symbol<'a, unsafe extern "C" fn(Program, T) -> c_int>;

/// `NVRTC_SUCCESS`.
const SUCCESS: c_int = 0;

/// The real one.
pub struct Nvrtc {
    library: Library,
    /// It opens this by name when it compiles; loaded already, it is found.
    _builtins: Library,
}

/// What became of a source.
#[derive(Debug)]
pub struct Compiled {
    pub status: c_int,
    /// What the compiler said.
    pub log: String,
    /// Text for the driver's own compiler.
    pub ptx: String,
    /// Machine code, where the options name a machine and no virtual one.
    pub cubin: Vec<u8>,
}

impl Nvrtc {
    pub fn open() -> Self {
        let links = nvidia::Libraries::of(&[nvidia::Library::Nvrtc]);
        let mut opened = links.files(nvidia::Library::Nvrtc).into_iter().map(|file| {
            // SAFETY: their initialisers have no demands on the process.
            unsafe { Library::new(&file) }.unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        });
        let mut next = || opened.next().expect("two files");
        Self { library: next(), _builtins: next() }
    }

    /// Major and minor.
    pub fn version(&self) -> (i32, i32) {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the signature is nvrtc.h's, and both places outlive the call.
        let status = unsafe {
            let version: Symbol<'_, unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int> = self.symbol(b"nvrtcVersion\0");
            version(&mut major, &mut minor)
        };
        assert_eq!(status, SUCCESS);
        (major, minor)
    }

    /// Compiles as GStreamer does: one source, no headers.
    pub fn compile(&self, source: &str, options: &[String]) -> Compiled {
        let source = CString::new(source).expect("a source has no zero byte");
        let options: Vec<CString> = options.iter().map(|o| CString::new(o.as_str()).expect("nor has an option")).collect();
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program: Program = ptr::null_mut();
        // SAFETY: signatures are nvrtc.h's; texts end with zero and outlive the calls; the program is used between its creation and its destruction.
        unsafe {
            let create: Symbol<
                '_,
                unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const c_void, *const c_void) -> c_int,
            > = self.symbol(b"nvrtcCreateProgram\0");
            assert_eq!(create(&mut program, source.as_ptr(), ptr::null(), 0, ptr::null(), ptr::null()), SUCCESS);
            let compile: Symbol<'_, unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int> =
                self.symbol(b"nvrtcCompileProgram\0");
            let status = compile(program, options.len().try_into().unwrap(), options.as_ptr());
            let log = self.bytes(program, b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0");
            let (mut ptx, mut cubin) = (Vec::new(), Vec::new());
            if status == SUCCESS {
                ptx = self.bytes(program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0");
                cubin = self.bytes(program, b"nvrtcGetCUBINSize\0", b"nvrtcGetCUBIN\0");
            }
            let destroy: Symbol<'_, unsafe extern "C" fn(*mut Program) -> c_int> = self.symbol(b"nvrtcDestroyProgram\0");
            assert_eq!(destroy(&mut program), SUCCESS);
            Compiled { status, log: text(&log), ptx: text(&ptx), cubin }
        }
    }

    /// # Safety
    /// `program` lives, and these are names of functions of nvrtc.h of the kinds `(nvrtcProgram, size_t *)` and `(nvrtcProgram, char *)`.
    unsafe fn bytes(&self, program: Program, size_of: &[u8], read: &[u8]) -> Vec<u8> {
        let mut size = 0_usize;
        // SAFETY: by this function's contract; the buffer has the size that the first call gives.
        unsafe {
            let size_of: OfProgram<'_, *mut usize> = self.symbol(size_of);
            assert_eq!(size_of(program, &mut size), SUCCESS);
            let mut bytes = vec![0; size];
            if size > 0 {
                let read: OfProgram<'_, *mut u8> = self.symbol(read);
                assert_eq!(read(program, bytes.as_mut_ptr()), SUCCESS);
            }
            bytes
        }
    }

    /// # Safety
    /// `T` is the signature of the function of this name.
    unsafe fn symbol<T>(&self, name: &[u8]) -> Symbol<'_, T> {
        // SAFETY: by this function's contract.
        unsafe { self.library.get(name) }.unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(name)))
    }
}

/// Up to the zero at its end.
fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map_or_else(|_| String::new(), |t| t.to_string_lossy().into_owned())
}
