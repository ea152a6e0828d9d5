//! What the credentials may do, tried (rules.md 21): an object is written, read, listed and deleted below each prefix that a worker uses.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;

use super::said;
use super::wanted::Finding;
use crate::store::s3::S3;
use crate::store::{Endpoint, Error};

/// Prefixes of the layout (rules.md 16), one object below each is tried.
const PREFIXES: [&str; 5] = ["live/", "ckpt/", "seg/lw/", "rec/", "thumb/"];

/// A line for each operation.
pub async fn permissions(client: &Client, bucket: &str, prefix: &str) -> Vec<Finding> {
    let nonce = getrandom::u64().unwrap_or_default();
    let mut put = Tried::new("s3:PutObject");
    let mut get = Tried::new("s3:GetObject");
    let mut list = Tried::new("s3:ListBucket");
    let mut delete = Tried::new("s3:DeleteObject");
    for class in PREFIXES {
        let key = format!("{prefix}{class}weir-trial-{nonce:016x}");
        let body = ByteStream::from_static(b"weir bucket check");
        put.outcome(class, &client.put_object().bucket(bucket).key(&key).body(body).send().await);
        get.outcome(class, &client.get_object().bucket(bucket).key(&key).send().await);
        list.outcome(class, &client.list_objects_v2().bucket(bucket).prefix(&key).send().await);
        delete.outcome(class, &client.delete_object().bucket(bucket).key(&key).send().await);
    }
    let missing = client.head_object().bucket(bucket).key(format!("{prefix}ckpt/weir-trial-{nonce:016x}")).send().await;
    let status = missing.err().and_then(|e| Some(e.raw_response()?.status().as_u16()));
    let line = "a missing key answers 404";
    let absent = match status {
        Some(404) => Finding::ok(line, "404"),
        Some(403) => Finding::wrong(
            line,
            "403: without s3:ListBucket nobody can tell a missing object from a forbidden one",
            "allow s3:ListBucket on the bucket itself, to workers and to the CDN",
        ),
        other => Finding::wrong(line, format!("{other:?}"), "see what the bucket's policy says"),
    };
    vec![put.finding(), get.finding(), list.finding(), delete.finding(), absent]
}

/// One permission over all prefixes.
struct Tried {
    permission: &'static str,
    refused: Vec<String>,
}

impl Tried {
    fn new(permission: &'static str) -> Self {
        Self { permission, refused: Vec::new() }
    }

    fn outcome<T, E>(&mut self, class: &str, outcome: &Result<T, SdkError<E>>)
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Err(e) = outcome {
            self.refused.push(format!("{class}: {}", said(e)));
        }
    }

    fn finding(self) -> Finding {
        if self.refused.is_empty() {
            return Finding::ok(self.permission, PREFIXES.join(" "));
        }
        Finding::wrong(self.permission, self.refused.join("; "), "give the worker's role the policy below")
    }
}

/// Conditional writes, which keep two workers apart (rules.md 18).
pub async fn conditions(bucket: &str, prefix: &str, endpoint: Option<&Endpoint>) -> Finding {
    let line = "conditional writes";
    let outcome = match S3::open(bucket, prefix, endpoint).await {
        Ok(store) => store.probe_conditions().await,
        Err(e) => Err(e),
    };
    match outcome {
        Ok(()) => Finding::ok(line, "If-Match and If-None-Match are honoured"),
        Err(e @ Error::Unusable { .. }) => {
            Finding::wrong(line, e.to_string(), "use a store that honours them, as Amazon S3 does")
        }
        Err(e) => Finding::wrong(line, e.to_string(), "see the lines above"),
    }
}

/// The policy of a worker's role: what a running worker asks for, and no more.
pub fn worker_policy(bucket: &str, prefix: &str) -> serde_json::Value {
    let arn = format!("arn:aws:s3:::{bucket}");
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "Objects", "Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
              "Resource": PREFIXES.map(|p| format!("{arn}/{prefix}{}*", p.split_inclusive('/').next().unwrap_or(p))) },
            { "Sid": "MissingIsNotForbidden", "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": arn },
            { "Sid": "LookAtReplication", "Effect": "Allow",
              "Action": ["s3:GetBucketVersioning", "s3:GetReplicationConfiguration"], "Resource": arn },
        ]
    })
}

/// What `weir bucket check` and `apply` ask for beside that: an operator's.
pub fn operator_policy(bucket: &str, role: Option<&str>) -> serde_json::Value {
    let arn = format!("arn:aws:s3:::{bucket}");
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "Configuration", "Effect": "Allow",
              "Action": ["s3:GetLifecycleConfiguration", "s3:GetBucketCORS", "s3:PutBucketVersioning",
                         "s3:PutReplicationConfiguration", "s3:PutLifecycleConfiguration", "s3:PutBucketCORS"],
              "Resource": arn },
            { "Sid": "HandTheRoleToS3", "Effect": "Allow", "Action": ["iam:PassRole"],
              "Resource": role.unwrap_or("arn:aws:iam::ACCOUNT:role/REPLICATION-ROLE") },
        ]
    })
}
