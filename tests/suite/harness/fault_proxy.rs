//! A network between a worker and its bucket that breaks in the ways in which networks and stores do. It understands as much HTTP/1.1 as it needs to
//! tell one request from the next, so that a fault hits whole requests; what it passes on is not changed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to requests. `every`: to each n-th PUT; all other requests pass.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "the suite and the long tests use some each")]
pub enum Mode {
    Pass,
    /// Nobody listens, and open connections end.
    Down,
    /// Requests are read and never answered, by nobody; ends when the mode does.
    Hang,
    /// Answers come, at so many bytes of request a second on each connection.
    Slow(u32),
    /// The store's own refusal, which it never sees.
    Status {
        code: u16,
        name: &'static str,
        every: u32,
    },
    /// The connection breaks in the middle of the body.
    Reset {
        every: u32,
    },
    /// A bit of the body is flipped on the way.
    Corrupt {
        every: u32,
    },
    /// The store does what it is asked, and its answer never arrives.
    LoseAnswer {
        every: u32,
    },
    /// A store that knows nothing of this condition of a request.
    Ignore {
        header: &'static str,
    },
    /// So many more PUTs pass; then it is as with [`Mode::Hang`].
    HangAfter(u32),
}

struct Shared {
    mode: Mutex<Mode>,
    puts: AtomicU32,
    stop: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    upstream: SocketAddr,
    /// Faults that happened.
    faults: AtomicU32,
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_connections(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// The proxy. Dropped, it is gone.
pub struct FaultProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

/// Between two looks at the mode.
const LOOK: Duration = Duration::from_millis(5);

impl FaultProxy {
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Pass),
            puts: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            connections: Mutex::default(),
            upstream,
            faults: AtomicU32::new(0),
        });
        let own = Arc::clone(&shared);
        let accepting = Some(std::thread::spawn(move || accept(listener, address, &own)));
        Self { address, shared, accepting }
    }

    /// As the worker's setting.
    pub fn endpoint(&self) -> String {
        format!("s3_endpoint=http://{}", self.address)
    }

    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        if mode == Mode::Down {
            self.shared.break_connections();
        }
    }

    /// How many requests met a fault so far.
    pub fn faults(&self) -> u32 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.set(Mode::Down);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        self.shared.break_connections();
    }
}

fn accept(listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.mode() == Mode::Down {
            listener = None;
            std::thread::sleep(LOOK);
            continue;
        }
        let open = listener.get_or_insert_with(|| TcpListener::bind(address).unwrap());
        open.set_nonblocking(true).unwrap();
        match open.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(false).unwrap();
                client.set_nodelay(true).unwrap();
                let kept = client.try_clone().unwrap();
                shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                let own = Arc::clone(shared);
                std::thread::spawn(move || {
                    // An end of either side is the end of the connection, and what the test wants to happen.
                    let _ = serve(&client, &own);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(e) => panic!("the proxy cannot accept: {e}"),
        }
    }
}

/// The head of a request or an answer as it came, and how its body ends.
struct Head {
    text: Vec<u8>,
    first: String,
    length: Option<usize>,
    chunked: bool,
}

fn head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head { text: Vec::new(), first: String::new(), length: None, chunked: false };
    loop {
        let begin = head.text.len();
        if from.read_until(b'\n', &mut head.text)? == 0 {
            return if begin == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let line = String::from_utf8_lossy(&head.text[begin..]).trim_end().to_owned();
        if begin == 0 {
            head.first.clone_from(&line);
        }
        if line.is_empty() {
            return Ok(Some(head));
        }
        if let Some((name, value)) = line.split_once(':') {
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            if name == "content-length" {
                head.length = value.parse().ok();
            }
            head.chunked |= name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked");
        }
    }
}

fn without(head: &[u8], header: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    let stays = |line: &&str| !line.to_ascii_lowercase().starts_with(&format!("{header}:"));
    text.split_inclusive("\r\n").filter(stays).collect::<String>().into_bytes()
}

fn body(head: &Head, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.chunked {
        loop {
            let begin = body.len();
            from.read_until(b'\n', &mut body)?;
            let size = String::from_utf8_lossy(&body[begin..]);
            let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or(""), 16).unwrap_or(0);
            from.take(size as u64 + 2).read_to_end(&mut body)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    from.take(head.length.unwrap_or(0) as u64).read_to_end(&mut body)?;
    Ok(body)
}

fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut requests = BufReader::new(client);
    let mut upstream: Option<BufReader<TcpStream>> = None;
    while let Some(mut request) = head(&mut requests)? {
        let is_put = request.first.starts_with("PUT ");
        let mut content = body(&request, &mut requests)?;
        let mode = shared.mode();
        let number = if is_put { shared.puts.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        let hit = |every: u32| is_put && number.is_multiple_of(every);
        if let Mode::HangAfter(left) = mode
            && is_put
        {
            let mut now = shared.mode.lock().unwrap_or_else(PoisonError::into_inner);
            if *now == mode {
                *now = if left == 0 { Mode::Hang } else { Mode::HangAfter(left - 1) };
            }
        }
        let mut lose = false;
        match shared.mode() {
            Mode::Down => return Ok(()),
            Mode::Hang => {
                shared.faults.fetch_add(1, Ordering::SeqCst);
                while shared.mode() == Mode::Hang {
                    std::thread::sleep(LOOK);
                }
                return Ok(());
            }
            Mode::Slow(rate) => std::thread::sleep(Duration::from_secs_f64(content.len() as f64 / f64::from(rate))),
            Mode::Status { code, name, every } if hit(every) => {
                shared.faults.fetch_add(1, Ordering::SeqCst);
                let xml = format!("<?xml version=\"1.0\"?><Error><Code>{name}</Code><Message>as told</Message></Error>");
                let length = xml.len();
                write!(
                    &mut &*client,
                    "HTTP/1.1 {code} {name}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{xml}"
                )?;
                continue;
            }
            Mode::Reset { every } if hit(every) => {
                shared.faults.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            Mode::Corrupt { every } if hit(every) && !content.is_empty() => {
                shared.faults.fetch_add(1, Ordering::SeqCst);
                let middle = content.len() / 2;
                content[middle] ^= 1;
            }
            Mode::LoseAnswer { every } if hit(every) => {
                shared.faults.fetch_add(1, Ordering::SeqCst);
                lose = true;
            }
            Mode::Ignore { header } => request.text = without(&request.text, header),
            _ => {}
        }
        let server = match &mut upstream {
            Some(open) => open,
            None => upstream.insert(BufReader::new(TcpStream::connect(shared.upstream)?)),
        };
        server.get_mut().write_all(&request.text)?;
        server.get_mut().write_all(&content)?;
        let Some(answer) = head(server)? else { return Ok(()) };
        let no_body = request.first.starts_with("HEAD ") || answer.first.contains(" 204 ") || answer.first.contains(" 304 ");
        let content = if no_body { Vec::new() } else { body(&answer, server)? };
        if lose {
            return Ok(());
        }
        (&mut &*client).write_all(&answer.text)?;
        (&mut &*client).write_all(&content)?;
    }
    Ok(())
}
