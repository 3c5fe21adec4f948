//! `Watch`: what the supervisor looks at while the data plane serves, every 0.4 s and when the kernel tells of the link: the link,
//! its routes, and what it and the program have counted.

use std::time::{Duration, Instant};

use nic::link::{Link, LinkCounts, Routes, takes_routers};
use nic::xdp::HeldProgram;
use nic::{DeviceName, IpFamily, Route};

use crate::link_watch::{LinkGone, LinkWatch};
use crate::losses::LinkLosses;
use crate::options::{Options, Steering};
use crate::setup::vlan::routes_of;

/// The shortest time between two looks, however often the kernel tells of the link.
const INTERVAL_LEAST: Duration = Duration::from_millis(50);

/// Routes of which the log tells.
const SHOWN: usize = 8;

/// The kernel's routes that are the server's: those of the interface, of the families in which it has an address and was told of
/// no router; `None` where nobody's are followed.
pub(crate) fn followed(options: &Options, link: &Link) -> Option<Routes> {
    // The routes by a TAP are the other end's, and lead here. At a shared address nobody is asked for a router.
    let follows = matches!(options.device, DeviceName::Xdp(_)) && options.steering != Steering::Shared;
    let is_open = |family: &IpFamily| options.has(*family) && !options.gateways.has(*family);
    let families: Vec<_> = [IpFamily::V4, IpFamily::V6].into_iter().filter(is_open).collect();
    let index = routes_of(options, link).filter(|_| follows && !families.is_empty())?;
    Some(Routes::new(index, families))
}

/// Where the kernel knows no router for the server's IPv6 clients, and will know none: what the operator should hear of it.
pub(crate) fn lacks_router(options: &Options, link: &Link) -> Option<String> {
    // On a dedicated interface the server takes routers' word itself.
    if options.steering != Steering::Own || !options.has(IpFamily::V6) || options.gateways.has(IpFamily::V6) {
        return None;
    }
    let mut routes = followed(options, link)?;
    let name = Link::by_index(routes_of(options, link)?).ok()?.name;
    let is_default = |route: &Route| route.prefix_len == 0 && route.network.is_ipv6();
    let knows = routes.look().ok()?.is_some_and(|routes| routes.iter().any(is_default));
    (!knows && !takes_routers(&name)).then(|| {
        format!(
            "the kernel has no default route of IPv6 by {name}, and takes no router's word there (net.ipv6.conf.{name}.accept_ra); if clients are beyond a router, name it with --gateway"
        )
    })
}

/// Looks, and says in the log what the operator should know.
pub(crate) struct Watch {
    index: u32,
    link: LinkWatch,
    /// What the kernel had counted of the interface at the start.
    before: LinkCounts,
    /// When it has looked last.
    looked: Option<Instant>,
    /// Whether the kernel has told of the link since.
    heard: bool,
    /// What it has seen and nobody has asked for yet.
    fresh: Option<LinkLosses>,
    /// Whether it has been said that the program's counts cannot be read.
    blind: bool,
    /// Where the kernel's routes are followed.
    routes: Option<Routes>,
    /// The routes there are, if they are new and nobody has asked for them yet.
    fresh_routes: Option<Vec<Route>>,
    /// Whether any were there before, and how often they have changed since.
    told_routes: bool,
    route_changes: u64,
}

impl Watch {
    /// Over a link with sockets on its first `queues` queues, and over the kernel's routes that are `followed`.
    pub(crate) fn new(link: Link, queues: usize, followed: Option<Routes>) -> Self {
        Self {
            routes: followed,
            fresh_routes: None,
            told_routes: false,
            route_changes: 0,
            index: link.index,
            before: Link::counts(link.index).unwrap_or_default(),
            link: LinkWatch::new(link, queues),
            looked: None,
            heard: false,
            fresh: None,
            blind: false,
        }
    }

    /// The kernel has told of the link: the next look is due.
    pub(crate) fn hear(&mut self) {
        self.heard = true;
    }

    /// How long after `now` it is to look again.
    pub(crate) fn due_in(&self, now: Instant, interval: Duration) -> Duration {
        let interval = if self.heard { INTERVAL_LEAST } else { interval };
        self.looked.map_or(Duration::ZERO, |looked| interval.saturating_sub(now.saturating_duration_since(looked)))
    }

    /// Looks, also at what `program` has counted, unless it has looked less than `interval` before `now` and has heard of
    /// nothing since, or less than [`INTERVAL_LEAST`].
    ///
    /// # Errors
    /// [`LinkGone`]: there is nothing to serve on any more.
    pub(crate) fn look_if_due(
        &mut self,
        now: Instant,
        interval: Duration,
        program: Option<&HeldProgram>,
    ) -> Result<(), LinkGone> {
        if self.due_in(now, interval) > Duration::ZERO {
            return Ok(());
        }
        self.looked = Some(now);
        self.heard = false;
        let before = self.link.changes_said();
        self.link.look()?;
        self.read_routes(self.link.changes_said() != before);
        self.read_counts(program);
        Ok(())
    }

    /// The routes, if they are others than when last asked for.
    pub(crate) fn fresh_routes(&mut self) -> Option<Vec<Route>> {
        self.fresh_routes.take()
    }

    /// Reads the routes, which vanish without a word when the interface does: `doubted`.
    fn read_routes(&mut self, doubted: bool) {
        let Some(routes) = &mut self.routes else { return };
        if doubted {
            routes.doubt();
        }
        // What the kernel does not say now it may at the next look.
        let Ok(Some(found)) = routes.look() else { return };
        let list = found.iter().take(SHOWN).map(Route::to_string).collect::<Vec<_>>().join(", ");
        let more = found.len().saturating_sub(SHOWN);
        tracing::info!(routes = found.len(), more, "the kernel's routes of the interface: {list}");
        // The first are no change.
        self.route_changes += u64::from(std::mem::replace(&mut self.told_routes, true));
        self.fresh_routes = Some(found);
    }

    /// What was counted, if there is anything new.
    pub(crate) fn fresh(&mut self) -> Option<LinkLosses> {
        self.fresh.take()
    }

    fn read_counts(&mut self, program: Option<&HeldProgram>) {
        // The interface is gone: the next look says so.
        let Ok(link) = Link::counts(self.index) else { return };
        let read = program.map_or_else(|| Ok(Default::default()), HeldProgram::counters);
        let program = read.unwrap_or_else(|error| {
            if !std::mem::replace(&mut self.blind, true) {
                tracing::warn!(%error, "the counts of the XDP program are not known from here on");
            }
            Default::default()
        });
        let losses = LinkLosses::of(program, link, self.before);
        self.fresh = Some(LinkLosses {
            queues_without_socket: self.link.queues_without_socket(),
            link_down: self.link.is_down().into(),
            link_changes: self.link.changes_said(),
            route_changes: self.route_changes,
            ..losses
        });
    }
}

#[cfg(test)]
mod tests {
    use nic::Mac;

    use super::*;

    /// A link that no kernel has, so that a look finds it gone.
    fn gone() -> Link {
        Link {
            name: "gone0".to_owned(),
            index: u32::MAX >> 1,
            mac: Mac([2; 6]),
            mtu: 1500,
            up: true,
            rx_queues: 1,
            tx_queues: 1,
            tx_queues_max: 1,
            combined: 0,
            rx_ring: None,
            driver: "veth".to_owned(),
        }
    }

    #[test]
    fn it_looks_at_once_and_then_when_the_interval_is_over_and_not_before() {
        let (begin, interval) = (Instant::now(), Duration::from_millis(400));
        let at = |millis| begin + Duration::from_millis(millis);
        let mut watch = Watch::new(gone(), 1, None);
        assert_eq!(watch.due_in(begin, interval), Duration::ZERO);
        assert!(watch.look_if_due(begin, interval, None).is_err(), "it has looked");
        assert_eq!(watch.due_in(at(100), interval), Duration::from_millis(300));
        assert_eq!(watch.look_if_due(at(399), interval, None), Ok(()), "it has not looked");
        assert_eq!(
            (watch.due_in(at(400), interval), watch.due_in(at(5_000), interval)),
            (Duration::ZERO, Duration::ZERO)
        );
        assert!(watch.look_if_due(at(400), interval, None).is_err(), "it has looked");
    }

    #[test]
    fn what_the_kernel_tells_is_looked_at_at_once_but_not_more_than_twenty_times_a_second() {
        let (begin, interval) = (Instant::now(), Duration::from_millis(400));
        let at = |millis| begin + Duration::from_millis(millis);
        let mut watch = Watch::new(gone(), 1, None);
        assert!(watch.look_if_due(begin, interval, None).is_err(), "it has looked");
        watch.hear();
        assert_eq!(watch.due_in(at(10), interval), Duration::from_millis(40));
        assert_eq!(watch.look_if_due(at(49), interval, None), Ok(()), "it has not looked");
        assert!(watch.look_if_due(at(50), interval, None).is_err(), "it has looked");
        assert_eq!(watch.due_in(at(60), interval), Duration::from_millis(390), "nothing new was told");
        watch.hear();
        assert_eq!(watch.due_in(at(260), interval), Duration::ZERO);
        // A link that is told of all the time.
        let looks = (0..1_000).filter(|&millis| {
            watch.hear();
            watch.look_if_due(at(1_000 + millis), interval, None).is_err()
        });
        assert_eq!(looks.count(), 20);
    }
}
