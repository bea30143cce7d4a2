//! Managed rules: the last stage, rules in ModSecurity's language (the OWASP Core Rule Set), evaluated by libmodsecurity.
//!
//! What the rules get is the request's head and no content: the phases 1 and 2. Always they run to their verdict, and the zone's
//! mode decides what it is worth, so that `detect` foretells exactly what `block` would do. A verdict takes a good part of a
//! millisecond, so it is worked out on threads of their own ([`pool`]), of which there are few: who floods them waits, and then
//! is refused or let pass as `uninspected` says.
//!
//! [`library`] is all that touches the C library; a build without the feature `modsecurity` has [`absent`] in its place, and
//! refuses a configuration that asks for managed rules. [`sets`] shares what was compiled, [`matches`] counts by rule.

#[cfg_attr(not(feature = "modsecurity"), path = "managed/absent.rs")]
pub(crate) mod library;
pub(crate) mod matches;
pub(crate) mod pool;
pub(crate) mod sets;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Method, StatusCode, Version};
use tracing::{debug, info};
use weir_config::{Managed, ManagedMode, RuleId, Uninspected};

use super::{
    Block, Firewall,
    counts::{Counts, Stage},
    custom::Answer,
};
use crate::request::reason::Reason;
use library::CompileError;
use matches::RuleNumber;
use pool::NotInspected;
use sets::{RuleSet, Sets};

/// A request's head, as rules see it: as its origin will get it, with the client's own headers.
#[cfg_attr(not(feature = "modsecurity"), expect(dead_code, reason = "nobody reads it without the library"))]
pub(crate) struct Head {
    /// The request's id, by which its lines in logs are found.
    pub id: String,
    pub client: (IpAddr, u16),
    pub local: (IpAddr, u16),
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub version: Version,
    pub headers: HeaderMap,
}

/// What the rules said of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The texts of the rules that matched, in their order.
    pub matches: Vec<String>,
    pub objection: Option<Objection>,
}

/// They want it refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Objection {
    pub status: u16,
    pub text: String,
}

/// A zone's managed rules.
#[derive(Default)]
pub(crate) struct ManagedRules(Option<Active>);

struct Active {
    id: RuleId,
    set: Arc<RuleSet>,
    blocks: bool,
    uninspected: Uninspected,
    counts: Arc<Counts>,
}

impl ManagedRules {
    pub fn build(config: &Managed, before: Option<&Self>, sets: &mut Sets) -> Result<Self, CompileError> {
        let blocks = match config.mode {
            ManagedMode::Off => return Ok(Self(None)),
            ManagedMode::Detect => false,
            ManagedMode::Block => true,
        };
        let before = before.and_then(|before| before.0.as_ref());
        Ok(Self(Some(Active {
            id: config.id.clone(),
            set: sets.get(config)?,
            blocks,
            uninspected: config.uninspected,
            counts: before.map(|before| before.counts.clone()).unwrap_or_default(),
        })))
    }

    pub fn counts(&self) -> impl Iterator<Item = (Stage, &RuleId, &Counts)> {
        self.0.iter().map(|active| (Stage::Managed, &active.id, &*active.counts))
    }
}

impl Firewall {
    /// Asks the managed rules of a zone, if it has any. `head` is called only then.
    pub async fn inspect(
        &self,
        managed: &ManagedRules,
        zone: &str,
        head: impl FnOnce() -> Head,
    ) -> Result<(), Block> {
        let Some(active) = &managed.0 else { return Ok(()) };
        let head = head();
        let id = head.id.clone();
        match self.pool.inspect(&active.set, head).await {
            Ok(findings) => self.conclude(active, zone, &id, &findings),
            Err(why) => active.uninspected(zone, why),
        }
    }

    fn conclude(&self, active: &Active, zone: &str, request: &str, findings: &Findings) -> Result<(), Block> {
        let numbers: Vec<_> = findings.matches.iter().map(|text| RuleNumber::of(text)).collect();
        self.matches.add(numbers.iter().copied());
        for text in &findings.matches {
            debug!(zone, request, text, "a managed rule matched");
        }
        let Some(objection) = &findings.objection else {
            if !numbers.is_empty() {
                let rules = matches::listed(&numbers);
                info!(zone, request, rules, "managed rules matched, and let the request pass");
            }
            return Ok(());
        };
        let verdict = RuleNumber::of(&objection.text);
        // CRS counts points, and the rule that sums them up logs as well as it refuses.
        if numbers.last() != Some(&verdict) {
            self.matches.add([verdict].into_iter());
        }
        active.counts.matched.add();
        let rules = matches::listed(&numbers);
        if active.blocks {
            active.counts.blocked.add();
            info!(zone, request, rules, %verdict, "managed rules refused a request");
            return Err(active.block(objection));
        }
        active.counts.dry_run.add();
        info!(zone, request, rules, %verdict, "managed rules would have refused a request");
        Ok(())
    }
}

impl Active {
    fn block(&self, objection: &Objection) -> Block {
        let block = Block::new(Reason::FirewallManaged, &self.id);
        // A redirect is none of weir's answers, and neither is a success.
        let status = StatusCode::from_u16(objection.status).ok();
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        Block { answer: status.map(|status| Answer { status, body: None }), ..block }
    }

    /// Nobody knows what the rules would have said.
    fn uninspected(&self, zone: &str, why: NotInspected) -> Result<(), Block> {
        let count = match why {
            NotInspected::Busy => &self.counts.crowded,
            NotInspected::Failed => &self.counts.failed,
        };
        count.add();
        debug!(zone, ?why, "a request could not be inspected");
        if self.blocks && self.uninspected == Uninspected::Refuse {
            return Err(Block::new(Reason::FirewallBusy, &self.id));
        }
        Ok(())
    }
}
