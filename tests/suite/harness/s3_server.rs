//! An S3 server that shares no code with Weir's SDK, on a free loopback port.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::until;

/// The bucket of every test.
pub const BUCKET: &str = "weir-test";

/// The SDK reads these; the server takes any.
pub const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "hush-hush"), ("AWS_REGION", "us-east-1")];

/// `ministack` or `moto`, installed by `./dev setup` beside the build's other tools. Dropped, it is killed.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    agent: ureq::Agent,
}

impl Server {
    /// `ministack` with the bucket in it.
    pub fn start() -> Self {
        Self::run("ministack/bin/ministack", |command, port| {
            command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port);
        })
    }

    /// `moto`, by others and with other code: a second opinion on what conditional writes mean.
    pub fn moto() -> Self {
        Self::run("moto/bin/moto_server", |command, port| {
            command.args(["-H", "127.0.0.1", "-p", port]);
        })
    }

    fn run(path: &str, options: impl Fn(&mut Command, &str)) -> Self {
        let program = program(path);
        // It cannot be given port 0: take one that is free now.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(&program);
        options(&mut command, &address.port().to_string());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{} is needed by this test (run ./dev setup): {e}", program.display()));
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let server = Self { child, address, agent };
        until("the S3 server", || server.agent.put(server.url("")).send_empty().ok().filter(|r| r.status() == 200));
        server
    }

    fn url(&self, key: &str) -> String {
        format!("http://{}/{BUCKET}/{key}", self.address)
    }

    /// Its address as the worker's setting.
    pub fn endpoint(&self) -> String {
        format!("s3_endpoint=http://{}", self.address)
    }

    /// An object as the server has it: type, caching, body.
    pub fn object(&self, key: &str) -> Option<(String, String, Vec<u8>)> {
        let mut answer = self.agent.get(self.url(key)).call().unwrap();
        let header = |name: &str| answer.headers().get(name).map(|h| h.to_str().unwrap().to_owned()).unwrap_or_default();
        let (kind, caching) = (header("content-type"), header("cache-control"));
        (answer.status() == 200).then(|| (kind, caching, answer.body_mut().read_to_vec().unwrap()))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let mut answer = self.agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {} {text}", answer.status());
        text
    }

    /// A request of the S3 API, as text.
    pub fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    pub fn put(&self, path: &str, body: &str) {
        self.ask("PUT", path, body);
    }

    pub fn delete(&self, path: &str) {
        self.ask("DELETE", path, "");
    }

    /// All keys below a prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().cloned().unwrap_or_default();
            let request =
                self.agent.get(self.url("")).query("list-type", "2").query("prefix", prefix).query("start-after", after);
            let text = request.call().unwrap().body_mut().read_to_string().unwrap();
            let page = text.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
            keys.extend(page);
            if !text.contains("<IsTruncated>true</IsTruncated>") {
                return keys;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Beside the folder of the build profile: `target/tools`, whatever the target folder is called.
fn program(path: &str) -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    let target = binary.ancestors().nth(3).expect("target/debug/deps/suite");
    target.join("tools").join(path)
}
