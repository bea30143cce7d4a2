//! The gate as the agent keeps it: its lists, the interfaces that it stands on, and what it tells.
//!
//! For counting and dropping nothing here has to live: lists, rates and links are pinned, and the kernel itself honours every end.

mod lists;
mod standing;

use weir_common::{gate::GatePolicy, verdict::Rule};
use weir_config::{Xdp, XdpRule};

pub use lists::{By, List, ListError, Listed, Temporary};
pub use standing::{Standing, Stands};

pub use lists::{add, listed, remove, temporary};
pub(crate) use lists::{check_room, configure, sweep};

/// What the kernel goes by, for a configuration. How many entries the lists have is their tables' to say.
pub(crate) fn policy(xdp: &Xdp) -> GatePolicy {
    let dry = xdp.dry_run.rules().map(|rule| of_config(rule).bit()).fold(0, |all, bit| all | bit);
    let token_ns = xdp.syn_rate.map_or(0, |rate| 1_000_000_000 / rate.per_second);
    let burst_ns = xdp.syn_rate.map_or(0, |rate| (rate.burst - 1) * token_ns);
    GatePolicy {
        dry,
        syn_token_ns: token_ns,
        syn_burst_ns: burst_ns,
        allow_entries: 0,
        deny_entries: 0,
        reserved: [0; 3],
    }
}

fn of_config(rule: XdpRule) -> Rule {
    match rule {
        XdpRule::Deny => Rule::Deny,
        XdpRule::SourceCap => Rule::SourceCap,
        XdpRule::SynRate => Rule::SynRate,
        XdpRule::Zone => Rule::Zone,
    }
}
