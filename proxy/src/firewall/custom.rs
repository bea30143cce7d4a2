//! Conditions in CEL: the first rule that allows or blocks decides.
//!
//! Variables are handed out as the expression asks for them. Patterns and networks were compiled with the configuration and are
//! found under the names that it put into the expression; what an evaluation may cost at most is bounded there.

use std::{
    any::Any,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, Value,
    common::{
        types::{CelBool, CelString, Type},
        value::{CowVal, StaticVal, Val},
    },
    context::VariableResolver,
};
use http::StatusCode;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use regex::Regex;
use tracing::{debug, info};
use weir_config::{Condition, CustomAction, CustomRule, Literal, OnError, RuleId};

use super::{
    Block,
    counts::{Counts, Stage, kept},
    facts::Facts,
};
use crate::request::reason::Reason;

/// What a rule answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    /// Plain text in place of the problem.
    pub body: Option<Arc<str>>,
}

static PATTERN: Type = Type::new_unspecified_type("weir.pattern");
static NETWORK: Type = Type::new_unspecified_type("weir.network");

/// The environment of every evaluation: CEL's own, and our functions.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    let added = [
        cel::add_overload!(env, fn matches: (CelString, Pattern) -> CelBool, id = "weir_matches"),
        cel::add_member_overload!(env, fn matches: (CelString, Pattern) -> CelBool, id = "weir_string_matches"),
        cel::add_overload!(env, fn in_network: (CelString, Network) -> CelBool, name = "in_network"),
        cel::add_overload!(env, fn lower: (CelString) -> CelString<'static>),
        cel::add_overload!(env, fn decode: (CelString) -> CelString<'static>),
    ];
    // A name that was declared twice would be found by any test that evaluates.
    debug_assert!(added.iter().all(Result::is_ok), "{added:?}");
    Arc::new(env)
});

fn matches(text: &CelString<'_>, pattern: &Pattern) -> CelBool {
    CelBool::from(pattern.0.is_match(text.inner()))
}

/// False for what is no address.
fn in_network(address: &CelString<'_>, network: &Network) -> CelBool {
    CelBool::from(address.inner().parse().is_ok_and(|address: std::net::IpAddr| network.0.contains(&address)))
}

fn lower(text: &CelString<'_>) -> CelString<'static> {
    CelString::from(text.inner().to_lowercase())
}

/// Takes the encoding of a query away, once: `+` is a space.
fn decode(text: &CelString<'_>) -> CelString<'static> {
    let spaced = text.inner().replace('+', " ");
    CelString::from(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// A value of our own, which expressions can only hand to our functions.
macro_rules! opaque {
    ($name:ident($inner:ty), $type:ident) => {
        #[derive(Clone, Debug)]
        struct $name($inner);

        impl Val for $name {
            fn get_type(&self) -> &Type {
                &$type
            }

            fn cel_type() -> &'static Type {
                &$type
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }

        impl StaticVal for $name {}
    };
}

opaque!(Pattern(Regex), PATTERN);
opaque!(Network(IpNet), NETWORK);

struct Rule {
    id: RuleId,
    when: Condition,
    /// Number N of these is `@N` in the condition.
    literals: Vec<Box<dyn Val>>,
    action: Action,
    on_error: OnError,
    dry_run: bool,
    counts: Arc<Counts>,
}

enum Action {
    Allow,
    Block(Answer),
    Log,
}

/// The rules of a scope.
#[derive(Default)]
pub(crate) struct CustomRules(Vec<Rule>);

impl CustomRules {
    pub fn build(rules: &[CustomRule], before: Option<&Self>) -> Self {
        let before = before.map_or(&[][..], |before| &before.0);
        let compile = |rule: &CustomRule| Rule {
            id: rule.id.clone(),
            when: rule.when.clone(),
            literals: rule.when.literals().iter().map(value_of).collect(),
            action: Action::of(&rule.action),
            on_error: rule.on_error,
            dry_run: rule.dry_run,
            counts: kept(before.iter().map(|rule| (&rule.id, &rule.counts)), &rule.id),
        };
        Self(rules.iter().map(compile).collect())
    }

    pub fn check(&self, facts: &Facts<'_>) -> Result<(), Block> {
        for rule in self.0.iter().filter(|rule| rule.applies(facts)) {
            rule.counts.matched.add();
            if let Action::Log = rule.action {
                let (method, path) = (facts.method, facts.path());
                info!(rule = %rule.id, zone = facts.zone, %method, ?path, "a rule of the firewall matched");
            }
            if rule.dry_run {
                rule.counts.dry_run.add();
                continue;
            }
            match &rule.action {
                Action::Log => {}
                Action::Allow => return Ok(()),
                Action::Block(answer) => {
                    rule.counts.blocked.add();
                    let block = Block::new(Reason::FirewallRule, &rule.id);
                    return Err(Block { answer: Some(answer.clone()), ..block });
                }
            }
        }
        Ok(())
    }

    pub fn counts(&self) -> impl Iterator<Item = (Stage, &RuleId, &Counts)> {
        self.0.iter().map(|rule| (Stage::Custom, &rule.id, &*rule.counts))
    }
}

fn value_of(literal: &Literal) -> Box<dyn Val> {
    match literal {
        Literal::Pattern(pattern) => Box::new(Pattern(pattern.clone())),
        Literal::Network(network) => Box::new(Network(*network)),
    }
}

impl Action {
    fn of(action: &CustomAction) -> Self {
        match action {
            CustomAction::Allow => Self::Allow,
            CustomAction::Log => Self::Log,
            CustomAction::Block { status, body } => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN);
                Self::Block(Answer { status, body: body.clone() })
            }
        }
    }
}

/// The names of one condition, for one request.
struct Names<'a, 'f> {
    facts: &'a Facts<'f>,
    rule: &'a Rule,
}

impl VariableResolver for Names<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable.strip_prefix('@') {
            Some(number) => {
                let literal = self.rule.literals.get(number.parse::<usize>().ok()?)?;
                Some(CowVal::Borrowed(literal.as_ref()))
            }
            None => self.facts.get(variable),
        }
    }
}

impl Rule {
    fn applies(&self, facts: &Facts<'_>) -> bool {
        let names = Names { facts, rule: self };
        let mut context = Context::with_env(ENVIRONMENT.clone());
        context.set_variable_resolver(&names);
        let failed = match Value::resolve_val(self.when.expression(), &context) {
            Ok(value) => match value.downcast_ref::<CelBool>() {
                Some(truth) => return *truth.inner(),
                None => "neither true nor false".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        self.counts.failed.add();
        debug!(rule = %self.id, zone = facts.zone, failed, "a condition could not be evaluated");
        self.on_error == OnError::Matched
    }
}

#[cfg(test)]
mod tests;
