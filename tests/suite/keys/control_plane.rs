//! A control plane on loopback: what it answers depends on the key that it is asked about.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

/// A question as it came.
#[derive(Debug, Clone)]
pub struct Question {
    pub headers: HeaderMap,
    pub body: String,
}

impl Question {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

type Questions = Arc<Mutex<Vec<Question>>>;

/// Dropped, it is gone with all its connections.
pub struct ControlPlane {
    pub address: SocketAddr,
    questions: Questions,
    runtime: Option<tokio::runtime::Runtime>,
}

impl ControlPlane {
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let runtime = super::runtime();
        let questions = Questions::default();
        let router = Router::new().route("/publish", post(answer)).with_state(Arc::clone(&questions));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, questions, runtime: Some(runtime) }
    }

    /// The worker's flag.
    pub fn flag(&self) -> String {
        format!("webhook.url=http://{}/publish", self.address)
    }

    /// Questions about this key so far.
    pub fn asked(&self, key: &str) -> Vec<Question> {
        self.questions.lock().unwrap().iter().filter(|q| q.json()["key"] == key).cloned().collect()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits, so that nobody is answered any more.
            runtime.shutdown_timeout(crate::harness::GUARD);
        }
    }
}

async fn answer(State(questions): State<Questions>, headers: HeaderMap, body: String) -> Response {
    let question = Question { headers, body };
    let key = question.json()["key"].as_str().unwrap().to_owned();
    questions.lock().unwrap().push(question);
    let text = |text: &str| text.to_owned().into_response();
    match key.as_str() {
        "hang-hunter2" => std::future::pending().await,
        "garbage-hunter2" => text("<html>hunter2</html>"),
        "long-hunter2" => text(&" ".repeat(100_000)),
        "fail-hunter2" => (StatusCode::INTERNAL_SERVER_ERROR, r#"{"allow":true,"stream":"fail"}"#).into_response(),
        "move-hunter2" => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/publish?elsewhere")]).into_response(),
        "deny-hunter2" => text(r#"{"allow":false,"reason":"unpaid since May"}"#),
        "sport-hunter2" => text(r#"{"allow":true,"stream":"sport","ladder":"cricket"}"#),
        key => match key.strip_suffix("-hunter2") {
            Some(stream) => {
                text(&json!({ "allow": true, "stream": stream, "passphrase": "hunter3hunter3", "max_kbps": 9000 }).to_string())
            }
            None => text(r#"{"allow":false}"#),
        },
    }
}
