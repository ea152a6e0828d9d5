//! A content steering server (RFC 8216bis, 7.1): answers one order of pathways, and remembers which pathway each player says it is on.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::until;

#[derive(Default)]
struct State {
    order: Vec<String>,
    /// Query strings of all requests.
    asked: Vec<String>,
}

pub struct Steering {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Steering {
    pub fn start(order: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let steering = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        steering.set(order);
        let state = Arc::clone(&steering.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // A player that goes away in the middle of it is no matter.
                std::thread::spawn(move || answer(stream, &state).ok());
            }
        });
        steering
    }

    pub fn url(&self) -> String {
        format!("http://{}/steer", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// From now on players are told this order.
    pub fn set(&self, order: &[&str]) {
        self.state().order = order.iter().map(|&o| o.to_owned()).collect();
    }

    /// Waits until a player of HLS or DASH says that it is on a pathway.
    pub fn is_on(&self, pathway: &str) {
        let quoted = format!("_pathway=%22{pathway}%22");
        let plain = format!("_pathway={pathway}");
        until(&format!("a player on pathway {pathway}"), || {
            let is = |query: &String| query.split(['?', '&']).any(|p| p.ends_with(&quoted) || p.ends_with(&plain));
            self.state().asked.iter().any(is).then_some(())
        });
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|l| !l.is_empty()) {}
    let order = {
        let mut state = lock(state);
        state.asked.push(first.split_whitespace().nth(1).unwrap_or_default().to_owned());
        format!("\"{}\"", state.order.join("\",\""))
    };
    // DASH calls the same list by another name (ETSI TS 103 998); each ignores the other's.
    let body = format!("{{\"VERSION\":1,\"TTL\":1,\"PATHWAY-PRIORITY\":[{order}],\"SERVICE-LOCATION-PRIORITY\":[{order}]}}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nAccess-Control-Allow-Origin: *\r\nCache-Control: no-store";
    write!(stream, "{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
