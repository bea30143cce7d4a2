//! A rule's condition in CEL (<https://cel.dev>): parsed, bounded and checked against what a request has, before any request.
//!
//! What a hostile request could make expensive is settled here. A pattern of `matches` and a network of `in_network` have to be
//! literals: they are compiled once and stand in the expression as names that no text can spell (`@0`, `@1`, ...). Patterns
//! are of the crate `regex`, linear in the text. Size, nesting and concatenations are bounded, so the cost of one evaluation is
//! bounded by that of the request's head.

mod walk;

use std::{fmt, thread};

use cel::{IdedExpr, Program};
use ipnet::IpNet;
use regex::Regex;

/// The longest expression. Bytes.
const MAX_BYTES: usize = 4096;
/// The deepest brackets, and the most `?`: the parser takes a dozen calls for each.
const MAX_BRACKETS: usize = 64;
const MAX_QUESTIONS: usize = 128;
/// What those calls need at most, several times over. Bytes.
const PARSER_STACK: usize = 32 << 20;

/// What an expression may name. `docs/firewall.md` says what each is (a test demands it).
pub const VARIABLES: [&str; 13] = [
    "method",
    "path",
    "raw_path",
    "query",
    "headers",
    "host",
    "zone",
    "client_ip",
    "country",
    "tls_version",
    "sni",
    "http_version",
    "websocket",
];

/// What an expression may call, besides CEL's operators and macros.
pub const FUNCTIONS: [&str; 10] = [
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "in_network",
    "size",
    "lower",
    "decode",
    "string",
    "int",
];

/// A checked expression. It may still fail when it is evaluated, for example for a header that is not there.
#[derive(Clone)]
pub struct Condition {
    text: Box<str>,
    expression: IdedExpr,
    literals: Vec<Literal>,
    variables: Vec<&'static str>,
}

/// A value that was compiled when the expression was read.
#[derive(Clone, Debug)]
pub enum Literal {
    Pattern(Regex),
    Network(IpNet),
}

/// What is wrong with an expression, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConditionFault {
    pub message: String,
    pub remedy: String,
    /// From 1, within the expression; columns in characters.
    pub line: usize,
    pub column: usize,
}

impl Condition {
    /// Parses and checks an expression.
    pub(crate) fn parse(text: &str) -> Result<Self, ConditionFault> {
        let whole = |message: String| ConditionFault {
            message,
            remedy: "make several rules of it; addresses belong into `access`".to_owned(),
            line: 1,
            column: 1,
        };
        if text.len() > MAX_BYTES {
            return Err(whole(format!("the expression has {} bytes, more than {MAX_BYTES}", text.len())));
        }
        if brackets(text) > MAX_BRACKETS || text.matches('?').count() > MAX_QUESTIONS {
            return Err(whole(format!(
                "the expression has brackets nested deeper than {MAX_BRACKETS}, or more than {MAX_QUESTIONS} `?`"
            )));
        }
        // The parser recurses, and so does whoever walks or drops what it made.
        let parsed = thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(PARSER_STACK);
            builder.spawn_scoped(scope, || Self::parse_bounded(text)).map(|thread| thread.join())
        });
        match parsed {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(_)) => Err(whole("the parser gave up on the expression".into())),
            Err(error) => Err(whole(format!("the expression cannot be parsed now: {error}"))),
        }
    }

    fn parse_bounded(text: &str) -> Result<Self, ConditionFault> {
        let program = Program::compile(text).map_err(|errors| {
            let first = errors.errors.first();
            let (line, column) = first.map_or((1, 1), |error| error.pos);
            ConditionFault {
                message: first.map_or_else(String::new, |error| error.msg.replace('\n', " ")),
                remedy: "correct the expression; it is CEL, for example path.startsWith(\"/admin\")".into(),
                line: usize::try_from(line).unwrap_or(1).max(1),
                column: usize::try_from(column).unwrap_or(1).max(1),
            }
        })?;
        let mut expression = program.expression().clone();
        let walked = walk::check(&mut expression, text, program.source_info())?;
        Ok(Self { text: text.into(), expression, literals: walked.literals, variables: walked.variables })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is evaluated.
    pub fn expression(&self) -> &IdedExpr {
        &self.expression
    }

    /// Number N is what the name `@N` of the expression stands for.
    pub fn literals(&self) -> &[Literal] {
        &self.literals
    }

    /// Whether the expression names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.contains(&variable)
    }
}

/// How deep brackets are nested, those in quotes included.
fn brackets(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// By the text: everything else follows from it.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
