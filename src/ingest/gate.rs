//! Counts connections, in all and per address, and refuses the next one over a limit. Each kind of listener has one. Knows no sockets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::household;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are taken; how many there are.
    All(u32),
    /// All places of this address are taken; how many it may have.
    Address(u32),
}

/// The counter.
#[derive(Debug)]
pub(super) struct Gate {
    total: u32,
    per_address: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    /// Whose it is, once that is known.
    address: Option<IpAddr>,
}

impl Gate {
    pub(super) fn new(total: u32, per_address: u32) -> Arc<Self> {
        Arc::new(Self { total, per_address, open: Mutex::default() })
    }

    /// A place for somebody from this address.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let mut place = self.arrive()?;
        place.belongs_to(address)?;
        Ok(place)
    }

    /// A place for somebody whose address a load balancer is still to tell.
    pub(super) fn arrive(self: &Arc<Self>) -> Result<Place, Full> {
        // A count cannot be half changed: a poisoned lock is as good as any.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total {
            return Err(Full::All(self.total));
        }
        open.total += 1;
        Ok(Place { gate: Arc::clone(self), address: None })
    }
}

impl Place {
    /// Whose place it is. To be said once.
    pub(super) fn belongs_to(&mut self, address: IpAddr) -> Result<(), Full> {
        let address = household(address);
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or_default();
        if here >= self.gate.per_address {
            return Err(Full::Address(self.gate.per_address));
        }
        open.by_address.insert(address, here + 1);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Some(here) = open.by_address.get_mut(&address) {
            *here = here.saturating_sub(1);
            // The map must not grow with every address that ever came.
            if *here == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_house_and_a_greedy_address_are_refused_until_somebody_leaves() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(ip("192.0.2.1")).unwrap();
        let _second = gate.enter(ip("192.0.2.1")).unwrap();
        assert!(matches!(gate.enter(ip("192.0.2.1")), Err(Full::Address(2))));
        let _third = gate.enter(ip("192.0.2.2")).unwrap();
        assert!(matches!(gate.enter(ip("192.0.2.3")), Err(Full::All(3))));
        drop(first);
        gate.enter(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn a_place_counts_before_and_after_it_is_known_whose_it_is() {
        let gate = Gate::new(2, 1);
        let mut first = gate.arrive().unwrap();
        let mut second = gate.arrive().unwrap();
        assert!(matches!(gate.arrive(), Err(Full::All(2))));
        first.belongs_to(ip("192.0.2.1")).unwrap();
        assert!(matches!(second.belongs_to(ip("192.0.2.1")), Err(Full::Address(1))));
        // Whoever was refused takes nothing with him that is not his.
        drop(second);
        assert!(matches!(gate.enter(ip("192.0.2.1")), Err(Full::Address(1))));
        drop(first);
        let _again = (gate.enter(ip("192.0.2.1")).unwrap(), gate.arrive().unwrap());
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let gate = Gate::new(1, 1);
        for i in 0..100 {
            gate.enter(std::net::Ipv6Addr::from_bits(i << 64).into()).unwrap();
        }
        assert!(gate.open.lock().unwrap().by_address.is_empty());
    }
}
