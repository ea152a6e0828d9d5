//! S3 and what speaks like it: plain uploads with CRC32 checksums, and reads for the worker's own player.
//!
//! One PUT per object, no retries of the SDK's: the stream's publish order decides what is written again. Every write is conditional:
//! `If-None-Match: *` for what is immutable, `If-Match` on the last version for what is not (Amazon S3 user guide, "conditional writes").

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ReplicationStatus};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use bytes::Bytes;

use super::{Error, Found, Object, SwapError, Tag, Tally, Writer, cache_control, checksum, content_type};
use crate::logic::model::ObjectKey;
use crate::logic::replication::Status;

/// Deadline to connect: three round trips across an ocean are under a second.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Deadline of one operation: a server that never answers must not hold a PUT longer than three segments.
const OPERATION_DEADLINE: Duration = Duration::from_secs(6);

/// An S3 server that is not Amazon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://HOST:PORT` or `https://HOST`.
    pub url: String,
    /// The bucket's name is the first part of the path; else it is the first label of the host's name, as Amazon's own are asked.
    pub path_style: bool,
}

/// A bucket, and a prefix that stands before every key.
#[derive(Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    healthy: AtomicBool,
    tally: Tally,
}

/// An object as the proxy hands it on.
#[derive(Debug)]
pub struct Fetched {
    /// The whole object, or the asked range of it.
    pub body: Bytes,
    /// `Content-Range` when it is a range.
    pub range: Option<String>,
    /// Its ETag.
    pub etag: Option<String>,
}

/// Why there is nothing to hand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// No such object.
    Missing,
    /// The asked range lies outside of it.
    Range,
    /// The store did not answer, or refused.
    Failed,
}

impl S3 {
    /// Credentials, profile and region by the SDK's usual chain; `endpoint` for a server that is not Amazon's.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the bucket cannot be listed.
    pub async fn open(bucket: &str, prefix: &str, endpoint: Option<&Endpoint>) -> Result<Self, Error> {
        let store = Self {
            client: client(endpoint).await,
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_matches('/')) },
            healthy: AtomicBool::new(true),
            tally: Tally::default(),
        };
        store.list("live/").await.map_err(|e| Error::Unusable { store: format!("s3://{bucket}"), reason: e.to_string() })?;
        Ok(store)
    }

    fn key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Counts one request by what its answer was.
    fn count<T, E>(&self, operation: &'static str, outcome: &Result<T, SdkError<E>>) {
        let result = match outcome {
            Ok(_) => "ok",
            Err(SdkError::TimeoutError(_)) => "timeout",
            Err(SdkError::DispatchFailure(_)) => "no_connection",
            Err(e) => match e.raw_response().map(|r| r.status().as_u16()) {
                Some(412 | 409) => "conflict",
                Some(404) => "missing",
                Some(401 | 403) => "denied",
                Some(429 | 503) => "slow_down",
                Some(500..) => "server_error",
                _ => "failed",
            },
        };
        self.tally.count(operation, result);
    }

    fn error<E: std::error::Error + 'static>(&self, operation: &'static str, key: &str, e: SdkError<E>) -> Error {
        Error::Bucket { operation, key: key.to_owned(), reason: DisplayErrorContext(e).to_string() }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    fn request(&self, key: &ObjectKey, body: Bytes) -> PutObjectFluentBuilder {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .content_type(content_type(key))
            .cache_control(cache_control(key))
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            // In memory: the checksum goes into a header, and the cost is half of a streamed body's (measured: 2.5 against 5 ms).
            .body(ByteStream::from(body))
    }

    pub(super) async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let outcome = self.request(key, body).send().await;
        self.count("put", &outcome);
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        outcome.map(|_| ()).map_err(|e| self.error("put", key.as_str(), e))
    }

    pub(super) async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let sum = checksum(&body);
        let outcome = self.request(key, body).if_none_match("*").metadata(SUM, &sum).send().await;
        self.count("put", &outcome);
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        match outcome {
            Ok(_) => Ok(()),
            // The answer to an earlier try was lost, or the key is another's.
            Err(e) if is_conflict(&e) => match self.head(key).await? {
                Some(there) if there.metadata().and_then(|m| m.get(SUM)) == Some(&sum) => {
                    self.healthy.store(true, Ordering::Relaxed);
                    Ok(())
                }
                Some(_) => Err(Error::Taken { key: key.to_string() }),
                None => Err(self.error("put", key.as_str(), e)),
            },
            Err(e) => Err(self.error("put", key.as_str(), e)),
        }
    }

    pub(super) async fn swap(
        &self,
        key: &ObjectKey,
        body: Bytes,
        expected: Option<&Tag>,
        writer: &Writer,
    ) -> Result<Tag, SwapError> {
        let request = self.request(key, body).metadata(EPOCH, writer.epoch.to_string()).metadata(NONCE, &*writer.nonce);
        let request = match expected {
            Some(tag) => request.if_match(&*tag.0),
            None => request.if_none_match("*"),
        };
        let outcome = request.send().await;
        self.count("swap", &outcome);
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        match outcome {
            Ok(put) => match put.e_tag {
                Some(tag) => Ok(Tag(tag.into())),
                None => {
                    Err(Error::Bucket { operation: "put", key: key.to_string(), reason: "answered without an ETag".into() }
                        .into())
                }
            },
            Err(e) if is_conflict(&e) => {
                let there = self.head(key).await?;
                self.healthy.store(true, Ordering::Relaxed);
                Err(SwapError::Other(there.and_then(|h| found(h.e_tag(), h.metadata()))))
            }
            Err(e) => Err(self.error("put", key.as_str(), e).into()),
        }
    }

    pub(super) async fn read(&self, key: &ObjectKey) -> Result<Option<Object>, Error> {
        let outcome = self.client.get_object().bucket(&self.bucket).key(self.key(key)).send().await;
        self.count("read", &outcome);
        match outcome {
            Ok(object) => {
                let found = found(object.e_tag(), object.metadata());
                let found = found.ok_or_else(|| self.broken("read", key, "answered without an ETag"))?;
                let body = object.body.collect().await.map_err(|e| self.broken("read", key, &e.to_string()))?;
                Ok(Some(Object { body: body.into_bytes(), found }))
            }
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(self.error("read", key.as_str(), e)),
        }
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> Result<Option<HeadObjectOutput>, Error> {
        let outcome = self.client.head_object().bucket(&self.bucket).key(self.key(key)).send().await;
        self.count("head", &outcome);
        match outcome {
            Ok(there) => Ok(Some(there)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(self.error("head", key.as_str(), e)),
        }
    }

    pub(super) async fn replication(&self, key: &ObjectKey) -> Result<Status, Error> {
        let there = self.head(key).await?.ok_or_else(|| self.broken("head", key, "the object is not there any more"))?;
        Ok(match there.replication_status() {
            Some(ReplicationStatus::Completed | ReplicationStatus::Complete | ReplicationStatus::Replica) => Status::Completed,
            Some(ReplicationStatus::Failed) => Status::Failed,
            Some(_) => Status::Pending,
            None => Status::Untracked,
        })
    }

    fn broken(&self, operation: &'static str, key: &ObjectKey, reason: &str) -> Error {
        Error::Bucket { operation, key: key.to_string(), reason: reason.to_owned() }
    }

    /// Tries whether the store honours conditions: without them two workers would write one playlist, each over the other's.
    ///
    /// # Errors
    /// [`Error::Unusable`] naming the condition that was ignored; [`Error::Bucket`] when the trial itself failed.
    pub async fn probe_conditions(&self) -> Result<(), Error> {
        let unusable = |reason: &str| Error::Unusable { store: format!("s3://{}", self.bucket), reason: reason.to_owned() };
        let nonce = format!("{:016x}", getrandom::u64().unwrap_or_default());
        let key = ObjectKey::parse(&format!("ckpt/probe/{nonce}")).ok_or_else(|| unusable("no key for the trial"))?;
        let writer = Writer { epoch: 0, nonce: nonce.into() };
        let swap = |body: &'static [u8], expected| {
            let (key, writer) = (&key, &writer);
            async move { self.swap(key, Bytes::from_static(body), expected, writer).await }
        };
        let first = swap(b"1", None).await.map_err(|e| unusable(&e.to_string()))?;
        let again = swap(b"2", None).await;
        let second = swap(b"3", Some(&first)).await;
        let stale = match &second {
            Ok(_) => Some(swap(b"4", Some(&first)).await),
            Err(_) => None,
        };
        self.delete(&key).await?;
        match (again, second, stale) {
            (Ok(_), ..) => Err(unusable("ignores If-None-Match, so two workers could write the same object")),
            (_, Ok(_), Some(Ok(_))) => Err(unusable("ignores If-Match, so two workers could write the same playlist")),
            (_, Err(e), _) => Err(unusable(&format!("refuses a write with the right If-Match: {e}"))),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let outcome = self.client.delete_object().bucket(&self.bucket).key(self.key(key)).send().await;
        self.count("delete", &outcome);
        outcome.map(|_| ()).map_err(|e| self.error("delete", key.as_str(), e))
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>, Error> {
        let full = format!("{}{prefix}", self.prefix);
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(&full).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            self.count("list", &page);
            let page = page.map_err(|e| self.error("list", prefix, e))?;
            let ours = page.contents().iter().filter_map(|o| o.key()?.strip_prefix(&self.prefix).and_then(ObjectKey::parse));
            keys.extend(ours);
        }
        Ok(keys)
    }

    /// Reads an object, or the part of it that a `Range` header asks for.
    ///
    /// # Errors
    /// [`Absent`].
    pub async fn fetch(&self, key: &ObjectKey, range: Option<&str>) -> Result<Fetched, Absent> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key)).set_range(range.map(str::to_owned));
        let object = request.send().await.map_err(|e| absent(&e))?;
        let (content_range, etag) = (object.content_range, object.e_tag);
        let body = object.body.collect().await.map_err(|_| Absent::Failed)?.into_bytes();
        Ok(Fetched { body, range: content_range, etag })
    }
}

/// A client with the one TLS provider, explicit deadlines and no retries of its own. One for a process: it keeps connections.
pub(crate) async fn client(endpoint: Option<&Endpoint>) -> Client {
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .operation_attempt_timeout(OPERATION_DEADLINE)
        .operation_timeout(OPERATION_DEADLINE)
        .build();
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        .load()
        .await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared);
    if shared.region().is_none() {
        // What a server that is not Amazon's takes; Amazon's own answers with the right one in its error.
        config = config.region(Region::new("us-east-1"));
    }
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(&endpoint.url).force_path_style(endpoint.path_style);
    }
    Client::from_conf(config.build())
}

/// Metadata: CRC-32 of an immutable object.
const SUM: &str = "weir-crc32";
/// Metadata: [`Writer::epoch`].
const EPOCH: &str = "weir-epoch";
/// Metadata: [`Writer::nonce`].
const NONCE: &str = "weir-writer";

fn found(tag: Option<&str>, metadata: Option<&HashMap<String, String>>) -> Option<Found> {
    let writer = metadata.and_then(|m| {
        let nonce = m.get(NONCE)?.as_str().into();
        Some(Writer { epoch: m.get(EPOCH)?.parse().ok()?, nonce })
    });
    Some(Found { tag: Tag(tag?.into()), writer })
}

/// The condition did not hold: 412; 409 when two conditional writes met; 404 for `If-Match` on a key that holds nothing.
fn is_conflict<E>(e: &SdkError<E>) -> bool {
    matches!(e.raw_response().map(|r| r.status().as_u16()), Some(404 | 409 | 412)) && !says(e, "NoSuchBucket")
}

fn is_missing<E>(e: &SdkError<E>) -> bool {
    // Without s3:ListBucket a missing key answers 403 (rules.md 21); `weir bucket check` says so.
    matches!(e.raw_response().map(|r| r.status().as_u16()), Some(404)) && !says(e, "NoSuchBucket")
}

/// S3's own error code is in the body.
fn says<E>(e: &SdkError<E>, code: &str) -> bool {
    let body = e.raw_response().and_then(|r| r.body().bytes());
    body.is_some_and(|b| b.windows(code.len()).any(|w| w == code.as_bytes()))
}

fn absent(e: &SdkError<GetObjectError>) -> Absent {
    match e.raw_response().map(|r| r.status().as_u16()) {
        // Without s3:ListBucket a missing key answers 403 (rules.md 21).
        Some(404 | 403) => Absent::Missing,
        Some(416) => Absent::Range,
        _ => Absent::Failed,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::Credentials;
    use aws_sdk_s3::presigning::PresigningConfig;

    use super::*;

    #[tokio::test]
    async fn the_bucket_stands_in_the_path_or_in_the_hosts_name() {
        for (path_style, address) in
            [(true, "http://s3.example:9000/bucket/live/x?"), (false, "http://bucket.s3.example:9000/live/x?")]
        {
            let endpoint = Endpoint { url: "http://s3.example:9000".into(), path_style };
            let client = client(Some(&endpoint)).await;
            let credentials = Credentials::new("a", "b", None, None, "test");
            let client = Client::from_conf(client.config().to_builder().credentials_provider(credentials).build());
            let soon = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
            let request = client.get_object().bucket("bucket").key("live/x").presigned(soon).await.unwrap();
            assert!(request.uri().starts_with(address), "{}", request.uri());
        }
    }
}
