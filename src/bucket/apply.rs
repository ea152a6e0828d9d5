//! Makes a bucket what [`Wanted`] says. Rules whose names begin with `weir-` are replaced; others stay as they are.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types as s3;

use super::wanted::{CorsRule, DAYS, LifecycleRule, RTC_MINUTES, ReplicationRule, Wanted};
use super::{Bucket, BucketError, cors_rule, lifecycle_rule, replication_rule};

/// What S3 cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destination {
    /// ARN of the other region's bucket.
    pub bucket: Option<String>,
    /// ARN of the role that S3 copies with.
    pub role: Option<String>,
}

/// What was done, or would be: one line each, `+` for what comes and `-` for what goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes(pub Vec<String>);

impl Changes {
    fn replace<T: PartialEq>(&mut self, what: &str, old: &[T], new: &[T], told: fn(&T) -> String) -> bool {
        let gone: Vec<&T> = old.iter().filter(|o| !new.contains(o)).collect();
        let come: Vec<&T> = new.iter().filter(|n| !old.contains(n)).collect();
        self.0.extend(gone.iter().map(|o| format!("- {what} {}", told(o))));
        self.0.extend(come.iter().map(|n| format!("+ {what} {}", told(n))));
        !gone.is_empty() || !come.is_empty()
    }
}

/// A rule of ours, with where it copies to.
#[derive(Debug, PartialEq, Eq)]
struct Copying {
    rule: ReplicationRule,
    destination: String,
    role: String,
}

impl Copying {
    fn told(&self) -> String {
        format!("{}, to {} as {}", self.rule.told(), self.destination, self.role)
    }
}

/// What replication has to be set to.
struct Plan {
    old: Vec<Copying>,
    new: Vec<Copying>,
    others: Vec<s3::ReplicationRule>,
    role: String,
}

impl Bucket {
    /// Sets what differs; with `dry`, only says it. Twice does nothing the second time.
    ///
    /// # Errors
    /// [`BucketError`]; what was set before the failure stays set.
    pub async fn apply(&self, wanted: &Wanted, to: &Destination, dry: bool) -> Result<Changes, BucketError> {
        let mut changes = Changes::default();
        if !wanted.replicated().is_empty() {
            let plan = self.plan_replication(wanted, to).await?;
            // S3 refuses replication rules of a bucket without versions.
            self.apply_versioning(&mut changes, dry).await?;
            self.apply_replication(plan, &mut changes, dry).await?;
        }
        self.apply_lifecycle(wanted, &mut changes, dry).await?;
        self.apply_cors(wanted, &mut changes, dry).await?;
        Ok(changes)
    }

    async fn apply_versioning(&self, changes: &mut Changes, dry: bool) -> Result<(), BucketError> {
        let request = self.client.get_bucket_versioning().bucket(&self.name);
        let found = request.send().await.map_err(|e| self.failed("GetBucketVersioning", &e))?;
        let enabled = s3::BucketVersioningStatus::Enabled;
        if found.status == Some(enabled.clone()) {
            return Ok(());
        }
        changes.0.push(format!("- versioning: {}", found.status.as_ref().map_or("never set", |s| s.as_str())));
        changes.0.push("+ versioning: Enabled".into());
        if !dry {
            let configuration = s3::VersioningConfiguration::builder().status(enabled).build();
            let request = self.client.put_bucket_versioning().bucket(&self.name).versioning_configuration(configuration);
            request.send().await.map_err(|e| self.failed("PutBucketVersioning", &e))?;
        }
        Ok(())
    }

    async fn plan_replication(&self, wanted: &Wanted, to: &Destination) -> Result<Plan, BucketError> {
        let found = match self.client.get_bucket_replication().bucket(&self.name).send().await {
            Ok(out) => out.replication_configuration,
            Err(e) if e.code() == Some("ReplicationConfigurationNotFoundError") => None,
            Err(e) => return Err(self.failed("GetBucketReplication", &e)),
        };
        let all = found.iter().flat_map(|f| f.rules()).cloned().map(|r| (replication_rule(&r), r));
        let (ours, others): (Vec<_>, Vec<_>) = all.partition(|(plain, _)| wanted.owns(&plain.id, plain.prefix.as_deref()));
        // What is there already need not be said again.
        let old_role = found.as_ref().map(|f| f.role().to_owned());
        let old_destination = |r: &s3::ReplicationRule| r.destination().map(|d| d.bucket().to_owned());
        let role = to.role.clone().or_else(|| old_role.clone());
        let role = role.ok_or(BucketError::Missing("say with --role ARN which role S3 copies with"))?;
        let destination = to.bucket.clone().or_else(|| ours.iter().find_map(|(_, r)| old_destination(r)));
        let destination =
            destination.ok_or(BucketError::Missing("say with --destination-bucket ARN which bucket S3 copies to"))?;
        let old = ours.into_iter().map(|(rule, r)| Copying {
            rule,
            destination: old_destination(&r).unwrap_or_default(),
            role: old_role.clone().unwrap_or_default(),
        });
        let old: Vec<Copying> = old.collect();
        let others: Vec<s3::ReplicationRule> = others.into_iter().map(|(_, r)| r).collect();
        let new = free_priorities(wanted.replication(), &others).into_iter();
        let new = new.map(|rule| Copying { rule, destination: destination.clone(), role: role.clone() }).collect();
        Ok(Plan { old, new, others, role })
    }

    async fn apply_replication(&self, plan: Plan, changes: &mut Changes, dry: bool) -> Result<(), BucketError> {
        let Plan { old, new, others, role } = plan;
        if !changes.replace("replication", &old, &new, Copying::told) || dry {
            return Ok(());
        }
        let rules = new.iter().map(|c| copying(&c.rule, &c.destination)).chain(others.into_iter().map(Ok));
        let rules = rules.collect::<Result<Vec<_>, _>>().map_err(|e| self.unbuilt("PutBucketReplication", &e))?;
        let configuration = s3::ReplicationConfiguration::builder().role(role).set_rules(Some(rules)).build();
        let configuration = configuration.map_err(|e| self.unbuilt("PutBucketReplication", &e))?;
        let request = self.client.put_bucket_replication().bucket(&self.name).replication_configuration(configuration);
        request.send().await.map_err(|e| self.failed("PutBucketReplication", &e))?;
        Ok(())
    }

    async fn apply_lifecycle(&self, wanted: &Wanted, changes: &mut Changes, dry: bool) -> Result<(), BucketError> {
        let found = match self.client.get_bucket_lifecycle_configuration().bucket(&self.name).send().await {
            Ok(out) => out.rules.unwrap_or_default(),
            Err(e) if e.code() == Some("NoSuchLifecycleConfiguration") => Vec::new(),
            Err(e) => return Err(self.failed("GetBucketLifecycleConfiguration", &e)),
        };
        let all = found.into_iter().map(|r| (lifecycle_rule(&r), r));
        let (ours, others): (Vec<_>, Vec<_>) = all.partition(|(plain, _)| wanted.owns(&plain.id, plain.prefix.as_deref()));
        let old: Vec<LifecycleRule> = ours.into_iter().map(|(plain, _)| plain).collect();
        let others = others.into_iter().map(|(_, r)| r);
        let new = wanted.lifecycle();
        if !changes.replace("lifecycle", &old, &new, LifecycleRule::told) || dry {
            return Ok(());
        }
        let rules = new.iter().map(expiring).chain(others.map(Ok));
        let rules = rules.collect::<Result<Vec<_>, _>>().map_err(|e| self.unbuilt("PutBucketLifecycleConfiguration", &e))?;
        let configuration = s3::BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
        let configuration = configuration.map_err(|e| self.unbuilt("PutBucketLifecycleConfiguration", &e))?;
        let request =
            self.client.put_bucket_lifecycle_configuration().bucket(&self.name).lifecycle_configuration(configuration);
        request.send().await.map_err(|e| self.failed("PutBucketLifecycleConfiguration", &e))?;
        Ok(())
    }

    async fn apply_cors(&self, wanted: &Wanted, changes: &mut Changes, dry: bool) -> Result<(), BucketError> {
        let found = match self.client.get_bucket_cors().bucket(&self.name).send().await {
            Ok(out) => out.cors_rules.unwrap_or_default(),
            Err(e) if e.code() == Some("NoSuchCORSConfiguration") => Vec::new(),
            Err(e) => return Err(self.failed("GetBucketCors", &e)),
        };
        let (ours, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|r| r.id() == Some(PLAYERS));
        let old: Vec<CorsRule> = ours.iter().map(cors_rule).collect();
        let new = [wanted.cors()];
        if !changes.replace("CORS", &old, &new, CorsRule::told) || dry {
            return Ok(());
        }
        let rules = new.iter().map(allowing).chain(others.into_iter().map(Ok));
        let rules = rules.collect::<Result<Vec<_>, _>>().map_err(|e| self.unbuilt("PutBucketCors", &e))?;
        let configuration = s3::CorsConfiguration::builder().set_cors_rules(Some(rules)).build();
        let configuration = configuration.map_err(|e| self.unbuilt("PutBucketCors", &e))?;
        let request = self.client.put_bucket_cors().bucket(&self.name).cors_configuration(configuration);
        request.send().await.map_err(|e| self.failed("PutBucketCors", &e))?;
        Ok(())
    }

    fn unbuilt(&self, operation: &'static str, e: &dyn std::error::Error) -> BucketError {
        BucketError::Request { operation, bucket: self.name.clone(), reason: e.to_string() }
    }
}

/// Priorities that no other rule has, above all of them: of two rules for a key S3 follows the higher one.
fn free_priorities(rules: Vec<ReplicationRule>, others: &[s3::ReplicationRule]) -> Vec<ReplicationRule> {
    let taken = others.iter().filter_map(s3::ReplicationRule::priority).max().unwrap_or(0);
    rules.into_iter().map(|r| ReplicationRule { priority: r.priority.map(|p| p.saturating_add(taken)), ..r }).collect()
}

type BuildError = aws_sdk_s3::error::BuildError;

fn copying(rule: &ReplicationRule, bucket: &str) -> Result<s3::ReplicationRule, BuildError> {
    let minutes = s3::ReplicationTimeValue::builder().minutes(RTC_MINUTES).build();
    let time = s3::ReplicationTime::builder().status(s3::ReplicationTimeStatus::Enabled).time(minutes.clone()).build()?;
    let metrics = s3::Metrics::builder().status(s3::MetricsStatus::Enabled).event_threshold(minutes).build()?;
    let destination = s3::Destination::builder().bucket(bucket).replication_time(time).metrics(metrics).build()?;
    let modifications = s3::ReplicaModifications::builder().status(s3::ReplicaModificationsStatus::Enabled).build()?;
    let markers = s3::DeleteMarkerReplication::builder().status(s3::DeleteMarkerReplicationStatus::Disabled).build();
    s3::ReplicationRule::builder()
        .id(&rule.id)
        .set_priority(rule.priority)
        .status(s3::ReplicationRuleStatus::Enabled)
        .filter(s3::ReplicationRuleFilter::builder().set_prefix(rule.prefix.clone()).build())
        .delete_marker_replication(markers)
        .source_selection_criteria(s3::SourceSelectionCriteria::builder().replica_modifications(modifications).build())
        .destination(destination)
        .build()
}

fn expiring(rule: &LifecycleRule) -> Result<s3::LifecycleRule, BuildError> {
    let noncurrent = |days| s3::NoncurrentVersionExpiration::builder().noncurrent_days(days).build();
    let abort = |days| s3::AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build();
    s3::LifecycleRule::builder()
        .id(&rule.id)
        .status(s3::ExpirationStatus::Enabled)
        .filter(s3::LifecycleRuleFilter::builder().set_prefix(rule.prefix.clone()).build())
        .set_expiration(rule.expire.map(|_| s3::LifecycleExpiration::builder().days(DAYS).build()))
        .set_noncurrent_version_expiration(rule.noncurrent.map(noncurrent))
        .set_abort_incomplete_multipart_upload(rule.abort.map(abort))
        .build()
}

fn allowing(rule: &CorsRule) -> Result<s3::CorsRule, BuildError> {
    s3::CorsRule::builder()
        .id(PLAYERS)
        .set_allowed_methods(Some(rule.methods.clone()))
        .set_allowed_origins(Some(rule.origins.clone()))
        .set_allowed_headers(Some(vec!["*".into()]))
        .set_expose_headers(Some(rule.expose.clone()))
        .max_age_seconds(PREFLIGHT_SECONDS)
        .build()
}

/// The CORS rule of ours.
const PLAYERS: &str = "weir-players";

/// A page asks again before its requests after this: an hour, so that a changed rule is seen within the hour.
const PREFLIGHT_SECONDS: i32 = 3600;
