//! `weir bucket check` and `weir bucket apply`.

use anyhow::anyhow;

use weir::bucket::apply::Destination;
use weir::bucket::wanted::{Finding, Standing, Wanted, quota};
use weir::bucket::{Bucket, BucketError, trial};
use weir::config::Config;
use weir::store::Location;

use crate::cli::{BucketVerb, Settings};
use crate::{Fatal, exit, run};

/// The configured bucket, and what it must be.
pub async fn bucket(config: &Config, store: &Location, origins: Vec<String>) -> Result<(Bucket, Wanted), BucketError> {
    let endpoint = config.s3_endpoint();
    let (bucket, prefix) = Bucket::of(store, endpoint.as_ref()).await?;
    Ok((bucket, Wanted { prefix, replicate: config.replicate, origins }))
}

fn open(settings: &Settings) -> Result<(Config, Location, tokio::runtime::Runtime), Fatal> {
    let config = run::load_any(settings)?;
    let store: Location = config.store.parse().map_err(|e| Fatal::new(exit::CONFIGURATION, anyhow::Error::new(e)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Fatal::new(1, e))?;
    Ok((config, store, runtime))
}

fn fatal(e: BucketError) -> Fatal {
    let code = match e {
        BucketError::NoBucket(_) | BucketError::Missing(_) => exit::CONFIGURATION,
        BucketError::Request { .. } => exit::BUCKET,
    };
    Fatal::new(code, e)
}

/// Either.
pub fn bucket_verb(verb: BucketVerb) -> Result<(), Fatal> {
    match verb {
        BucketVerb::Check { settings, origin, streams, kbps } => check(&settings, origin, streams, kbps),
        BucketVerb::Apply { settings, origin, destination_bucket, role, dry_run } => {
            apply(&settings, origin, &Destination { bucket: destination_bucket, role }, dry_run)
        }
    }
}

fn check(settings: &Settings, origins: Vec<String>, streams: u32, kbps: u32) -> Result<(), Fatal> {
    let (config, store, runtime) = open(settings)?;
    let lines = runtime.block_on(async {
        let (bucket, wanted) = bucket(&config, &store, origins).await?;
        let mut lines = bucket.check(&wanted).await;
        lines.push(quota(streams, kbps, config.replicate));
        Ok(lines)
    });
    let lines = lines.map_err(fatal)?;
    print(&lines);
    if let Location::S3 { bucket, prefix } = &store {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        println!("\nPolicy of the worker's role:\n{:#}", trial::worker_policy(bucket, &prefix));
        println!("\nFor who runs `weir bucket check` and `apply`, beside it:\n{:#}", trial::operator_policy(bucket, None));
    }
    let bad = lines.iter().filter(|l| matches!(l.standing, Standing::Wrong | Standing::Unknown)).count();
    if bad == 0 {
        return Ok(());
    }
    Err(Fatal::new(exit::BUCKET, anyhow!("{bad} of {} lines are not as they must be", lines.len())))
}

fn apply(settings: &Settings, origins: Vec<String>, to: &Destination, dry: bool) -> Result<(), Fatal> {
    let (config, store, runtime) = open(settings)?;
    let changes = runtime.block_on(async {
        let (bucket, wanted) = bucket(&config, &store, origins).await?;
        bucket.apply(&wanted, to, dry).await
    });
    let changes = changes.map_err(fatal)?;
    for line in &changes.0 {
        println!("{line}");
    }
    match (changes.0.is_empty(), dry) {
        (true, _) => println!("nothing to change"),
        (false, true) => println!("nothing was changed: --dry-run"),
        (false, false) => println!("done; `weir bucket check` says whether it is all"),
    }
    Ok(())
}

/// As wide as the longest text of each column; the fix stands in a line of its own.
fn print(lines: &[Finding]) {
    let width = lines.iter().map(|l| l.line.chars().count()).max().unwrap_or(0);
    for l in lines {
        println!("{:<7}  {:<width$}  {}", l.standing.as_str(), l.line, l.found);
        if !l.fix.is_empty() {
            println!("{:<7}  {:<width$}  -> {}", "", "", l.fix);
        }
    }
}
