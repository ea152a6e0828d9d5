//! `weir simulate`: a fleet in virtual time, by the code that admits publishers.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use weir::logic::capacity::Dimension;
use weir::logic::fleet::{self, Outcome, Plan, RTO};
use weir::logic::ladder::Ladder;
use weir::logic::recipe::DEFAULT_LADDER;

use crate::{Fatal, exit};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Streams of three regions together.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(3..=30_000))]
    streams: u32,
    /// Nodes of each region that stand ready besides [a sweep].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
    warm: Option<u32>,
    /// Seconds that a new node takes.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=3600))]
    node_start: u64,
    /// Nodes that a region may have at the most [no limit].
    #[arg(long, value_name = "NODES")]
    most: Option<u32>,
    /// A cost times a factor: `encode=2`; may be given several times.
    #[arg(long, value_name = "DIMENSION=FACTOR")]
    cost: Vec<String>,
    /// What streams really take of it: `encode=1.2`; may be given several times.
    #[arg(long, value_name = "DIMENSION=FACTOR")]
    truth: Vec<String>,
    /// Refuse without leaving rungs out before.
    #[arg(long)]
    no_shedding: bool,
    /// The same seed gives the same numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for plots (SVG).
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// The day as well: crowds, node losses, and the loss of a region near the peak.
    #[arg(long)]
    day: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// `encode=1.5`, in thousandths.
fn factor(text: &str) -> Result<(Dimension, u32), Fatal> {
    let wrong = || Fatal::new(exit::CONFIGURATION, anyhow!("{text}: write DIMENSION=FACTOR, with a factor of 0.001 to 1000"));
    let (name, factor) = text.split_once('=').ok_or_else(wrong)?;
    let dimension = Dimension::ALL.into_iter().find(|d| d.as_str() == name).ok_or_else(wrong)?;
    let factor: f64 = factor.parse().map_err(|_| wrong())?;
    if !(0.001..=1000.0).contains(&factor) {
        return Err(wrong());
    }
    Ok((dimension, (factor * 1000.0).round() as u32))
}

impl Arguments {
    fn apply(&self, mut plan: Plan) -> Result<Plan, Fatal> {
        for text in &self.cost {
            let (dimension, permille) = factor(text)?;
            plan.costs = plan.costs.times(dimension, permille);
        }
        for text in &self.truth {
            let (dimension, permille) = factor(text)?;
            plan.truth[dimension as usize] = permille;
        }
        Ok(Plan {
            node_start: self.node_start * fleet::SECOND,
            most: self.most.unwrap_or(plan.most),
            sheds: !self.no_shedding,
            ..plan
        })
    }

    fn tell(&self, name: &str, outcome: &Outcome) -> Result<(), Fatal> {
        if self.json {
            let line = serde_json::json!({ "run": name, "outcome": outcome });
            println!("{line}");
        } else {
            print!("{}", outcome.row(name));
        }
        if let Some(dir) = &self.plots {
            let file = dir.join(format!("{}.svg", name.replace([' ', ','], "-")));
            let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, fleet::svg(outcome, name)));
            written.with_context(|| file.display().to_string()).map_err(|e| Fatal::new(1, e))?;
        }
        Ok(())
    }
}

/// Prints what becomes of the streams.
pub fn simulate(arguments: &Arguments) -> Result<(), Fatal> {
    let ladder: Ladder = toml::from_str(DEFAULT_LADDER).map_err(|e| Fatal::new(1, e))?;
    let streams = arguments.streams;
    if !arguments.json {
        print!("{}", Outcome::HEAD);
    }
    let mut answers = Vec::new();
    for (kind, is_passable) in [("passed through", true), ("re-encoded", false)] {
        let plan = |warm| arguments.apply(Plan::region_loss(&ladder, streams, is_passable, warm, arguments.seed));
        let nodes = plan(0)?.workers;
        // Where both others hold all of the lost region's streams, more nodes change nothing.
        let sweep = match arguments.warm {
            Some(warm) => warm..=warm,
            None => 0..=nodes.div_ceil(2) + 1,
        };
        let last = *sweep.end();
        let mut enough = None;
        for warm in sweep {
            let outcome = fleet::run(&plan(warm)?);
            if outcome.holds_rto() {
                enough = enough.or(Some(warm));
            } else {
                enough = None;
            }
            // Ten lines are enough to see a course.
            if arguments.warm.is_some() || warm % last.div_ceil(10).max(1) == 0 || warm == last {
                arguments.tell(&format!("{kind}, {nodes} + {warm} nodes a region"), &outcome)?;
            }
        }
        answers.push((kind, nodes, enough));
    }
    if arguments.day {
        let outcome = fleet::run(&arguments.apply(Plan::day(&ladder, streams, arguments.warm.unwrap_or(1), arguments.seed))?);
        arguments.tell("a day", &outcome)?;
    }
    if !arguments.json {
        println!();
        for (kind, nodes, enough) in answers {
            let minutes = RTO / fleet::MINUTE;
            match enough {
                Some(warm) => println!(
                    "{kind}: with {warm} warm nodes beside {nodes} in each region, every stream of a lost region is back within {minutes} minutes"
                ),
                None => println!("{kind}: not every stream of a lost region is back within {minutes} minutes"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_names_a_dimension_and_is_a_number() {
        assert_eq!(factor("encode=1.5").unwrap(), (Dimension::Encode, 1500));
        assert_eq!(factor("gpu_memory=0.001").unwrap(), (Dimension::GpuMemory, 1));
        for wrong in ["encode", "encoder=2", "encode=0", "encode=-1", "encode=x", "encode=NaN", "encode=1e9", ""] {
            assert!(factor(wrong).is_err(), "{wrong}");
        }
    }
}
