//! `weir bucket check` and `weir bucket apply`: what the bucket must be for what Weir promises (rules.md 16, 17, 21), seen and set over the S3 API.

pub mod apply;
pub mod trial;
pub mod wanted;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketVersioningStatus, DeleteMarkerReplicationStatus, ExpirationStatus, MetricsStatus, ReplicaModificationsStatus,
    ReplicationRuleStatus, ReplicationTimeStatus,
};

use crate::store::{Endpoint, Location};
use wanted::{CorsRule, Finding, Found, LifecycleRule, ReplicationRule, Wanted};

/// A bucket and who asks for it.
#[derive(Debug)]
pub struct Bucket {
    client: Client,
    name: String,
    endpoint: Option<Endpoint>,
}

/// Why nothing could be looked at or set.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The store is a folder.
    #[error("{0} is no bucket: `store` must be s3://BUCKET[/PREFIX]")]
    NoBucket(String),
    /// A request that must work.
    #[error("{operation} on bucket {bucket}: {reason}")]
    Request {
        /// Which.
        operation: &'static str,
        /// Bucket name.
        bucket: String,
        /// What S3 said.
        reason: String,
    },
    /// Something that only the operator knows.
    #[error("{0}")]
    Missing(&'static str),
}

impl Bucket {
    /// The bucket of a store. Credentials, profile and region by the SDK's usual chain.
    ///
    /// # Errors
    /// [`BucketError::NoBucket`].
    pub async fn of(store: &Location, endpoint: Option<&Endpoint>) -> Result<(Self, String), BucketError> {
        let Location::S3 { bucket, prefix } = store else { return Err(BucketError::NoBucket(store.to_string())) };
        let client = crate::store::s3::client(endpoint).await;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok((Self { client, name: bucket.clone(), endpoint: endpoint.cloned() }, prefix))
    }

    fn failed<E>(&self, operation: &'static str, e: &SdkError<E>) -> BucketError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        BucketError::Request { operation, bucket: self.name.clone(), reason: said(e) }
    }

    /// Reads versioning and replication, which copies depend on.
    pub async fn replication(&self) -> Found {
        let replication = match self.client.get_bucket_replication().bucket(&self.name).send().await {
            Ok(out) => {
                Ok(out.replication_configuration.map(|c| c.rules).unwrap_or_default().iter().map(replication_rule).collect())
            }
            Err(e) if e.code() == Some("ReplicationConfigurationNotFoundError") => Ok(Vec::new()),
            Err(e) => Err(said(&e)),
        };
        let versioning = self.client.get_bucket_versioning().bucket(&self.name).send().await;
        let versioning = versioning.map(|v| v.status == Some(BucketVersioningStatus::Enabled)).map_err(|e| said(&e));
        let unread = "not looked at";
        Found { versioning, replication, lifecycle: Err(unread.into()), cors: Err(unread.into()) }
    }

    /// Reads all of the configuration that is checked.
    pub async fn found(&self) -> Found {
        let lifecycle = match self.client.get_bucket_lifecycle_configuration().bucket(&self.name).send().await {
            Ok(out) => Ok(out.rules().iter().map(lifecycle_rule).collect()),
            Err(e) if e.code() == Some("NoSuchLifecycleConfiguration") => Ok(Vec::new()),
            Err(e) => Err(said(&e)),
        };
        let cors = match self.client.get_bucket_cors().bucket(&self.name).send().await {
            Ok(out) => Ok(out.cors_rules().iter().map(cors_rule).collect()),
            Err(e) if e.code() == Some("NoSuchCORSConfiguration") => Ok(Vec::new()),
            Err(e) => Err(said(&e)),
        };
        Found { lifecycle, cors, ..self.replication().await }
    }

    /// Every line of `weir bucket check` but the quota's.
    pub async fn check(&self, wanted: &Wanted) -> Vec<Finding> {
        let mut lines = trial::permissions(&self.client, &self.name, &wanted.prefix).await;
        lines.push(trial::conditions(&self.name, &wanted.prefix, self.endpoint.as_ref()).await);
        lines.extend(wanted.compare(&self.found().await));
        lines
    }
}

/// S3's error code and message; of a connection that failed, all causes.
fn said<E>(e: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (e.code(), e.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => aws_sdk_s3::error::DisplayErrorContext(e).to_string(),
    }
}

#[expect(deprecated, reason = "rules of the first schema have their prefix beside the filter, and buckets still have them")]
fn replication_rule(rule: &aws_sdk_s3::types::ReplicationRule) -> ReplicationRule {
    let destination = rule.destination();
    let time = destination.and_then(|d| d.replication_time());
    let metrics = destination.and_then(|d| d.metrics());
    let prefix = match rule.filter() {
        Some(f) if f.tag().is_some() => None,
        Some(f) => match f.and() {
            Some(and) if !and.tags().is_empty() => None,
            Some(and) => Some(and.prefix().unwrap_or_default()),
            None => Some(f.prefix().unwrap_or_default()),
        },
        None => Some(rule.prefix().unwrap_or_default()),
    };
    let modifications = rule.source_selection_criteria().and_then(|c| c.replica_modifications());
    ReplicationRule {
        id: rule.id().unwrap_or_default().to_owned(),
        enabled: *rule.status() == ReplicationRuleStatus::Enabled,
        prefix: prefix.map(str::to_owned),
        priority: rule.priority(),
        // Rules of the first schema copy them.
        delete_markers: rule
            .delete_marker_replication()
            .map_or(rule.filter().is_none(), |d| d.status() == Some(&DeleteMarkerReplicationStatus::Enabled)),
        replica_modifications: modifications.is_some_and(|m| *m.status() == ReplicaModificationsStatus::Enabled),
        time: time.filter(|t| *t.status() == ReplicationTimeStatus::Enabled).and_then(|t| t.time()?.minutes()),
        metrics: metrics.filter(|m| *m.status() == MetricsStatus::Enabled).and_then(|m| m.event_threshold()?.minutes()),
    }
}

#[expect(deprecated, reason = "old rules have their prefix beside the filter, and buckets still have them")]
fn lifecycle_rule(rule: &aws_sdk_s3::types::LifecycleRule) -> LifecycleRule {
    let prefix = match rule.filter() {
        Some(f) if f.tag().is_some() || f.object_size_greater_than().is_some() || f.object_size_less_than().is_some() => None,
        Some(f) => match f.and() {
            Some(_) => None,
            None => Some(f.prefix().unwrap_or_default()),
        },
        None => Some(rule.prefix().unwrap_or_default()),
    };
    let expiration = rule.expiration();
    LifecycleRule {
        id: rule.id().unwrap_or_default().to_owned(),
        enabled: *rule.status() == ExpirationStatus::Enabled,
        prefix: prefix.map(str::to_owned),
        expire: expiration.and_then(|e| e.days().filter(|&d| d > 0).or_else(|| e.date().map(|_| 0))),
        noncurrent: rule.noncurrent_version_expiration().and_then(|n| n.noncurrent_days()),
        abort: rule.abort_incomplete_multipart_upload().and_then(|a| a.days_after_initiation()),
    }
}

fn cors_rule(rule: &aws_sdk_s3::types::CorsRule) -> CorsRule {
    CorsRule {
        methods: rule.allowed_methods().to_vec(),
        origins: rule.allowed_origins().to_vec(),
        expose: rule.expose_headers().to_vec(),
    }
}
