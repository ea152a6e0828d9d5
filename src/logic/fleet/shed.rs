//! What a worker of the simulation leaves out before it refuses: the newcomer's own rungs. Where the worker's own ladder of steps is pure and can be linked, it takes this place.

use crate::logic::capacity::Demand;

/// The demand with its whole ladder, and where that is allowed with one rung less each time: a re-encoded top first, the lowest last (rules.md 1). A passed-through source
/// stays when all are gone; where nothing is passed through one rung stays.
pub fn steps(demand: &Demand, may_shed: bool) -> impl Iterator<Item = Demand> {
    let least = if demand.passthrough { 0 } else { 1.min(demand.rungs.len()) };
    let last = if may_shed { demand.rungs.len() - least } else { 0 };
    (0..=last).map(|without| Demand { rungs: demand.rungs[without..].to_vec(), ..demand.clone() })
}
