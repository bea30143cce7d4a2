//! The check of a parsed expression, node by node: names, calls, bounds, and that it can be true or false.

use cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, SourceInfo, operators},
};
use ipnet::IpNet;
use regex::RegexBuilder;

use super::{ConditionFault, FUNCTIONS, Literal, VARIABLES};
use crate::nearest::nearest;

/// The most nodes of an expression, macros expanded.
const MAX_NODES: usize = 500;
/// The deepest node, so that neither the walk nor an evaluation runs out of stack.
const MAX_DEPTH: usize = 64;
/// The deepest comprehension within a comprehension: two go over every pair of headers, three over every triple.
const MAX_COMPREHENSIONS: usize = 2;
/// The most `+`, each of which may copy its operands.
const MAX_ADDITIONS: usize = 16;
/// The most memory that one compiled pattern may take. Bytes.
const MAX_PATTERN: usize = 1 << 20;

/// CEL's operators, and what its macros expand to.
const OPERATORS: [&str; 19] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::NOT_STRICTLY_FALSE,
    operators::IN,
];

/// What the walk finds besides faults.
#[derive(Default)]
pub(super) struct Walked {
    pub literals: Vec<Literal>,
    pub variables: Vec<&'static str>,
}

/// Checks an expression and puts names for compiled literals into it.
pub(super) fn check(
    expression: &mut IdedExpr,
    text: &str,
    info: &SourceInfo,
) -> Result<Walked, ConditionFault> {
    let mut walk = Walk {
        text,
        info,
        bound: Vec::new(),
        nodes: 0,
        depth: 0,
        additions: 0,
        comprehensions: 0,
        found: Walked::default(),
    };
    if !may_be_bool(&expression.expr) {
        return Err(walk.fault(
            expression,
            "the expression is not true or false",
            "compare it with something, for example path == \"/chat\"",
        ));
    }
    walk.node(expression)?;
    Ok(walk.found)
}

struct Walk<'a> {
    text: &'a str,
    info: &'a SourceInfo,
    /// Variables of the comprehensions that the walk is in.
    bound: Vec<String>,
    nodes: usize,
    depth: usize,
    additions: usize,
    comprehensions: usize,
    found: Walked,
}

impl Walk<'_> {
    fn fault(
        &self,
        node: &IdedExpr,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConditionFault {
        let offset = self.info.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        ConditionFault { message: message.into(), remedy: remedy.into(), line, column }
    }

    fn node(&mut self, node: &mut IdedExpr) -> Result<(), ConditionFault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the expression has more than {MAX_NODES} parts");
            return Err(self.fault(node, message, "make several rules of it"));
        }
        if self.depth == MAX_DEPTH {
            let message = format!("the expression is nested deeper than {MAX_DEPTH}");
            return Err(self.fault(node, message, "make several rules of it"));
        }
        self.depth += 1;
        let checked = self.inside(node);
        self.depth -= 1;
        checked
    }

    fn inside(&mut self, node: &mut IdedExpr) -> Result<(), ConditionFault> {
        match &mut node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(_) => self.name(node),
            Expr::Select(select) => self.node(&mut select.operand),
            Expr::List(list) => list.elements.iter_mut().try_for_each(|element| self.node(element)),
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| self.entry(entry)),
            Expr::Struct(_) => Err(self.fault(node, "a message cannot be made here", "compare plain values")),
            Expr::Comprehension(_) => self.comprehension(node),
            Expr::Call(_) => self.call(node),
        }
    }

    fn entry(&mut self, entry: &mut IdedEntryExpr) -> Result<(), ConditionFault> {
        match &mut entry.expr {
            EntryExpr::MapEntry(entry) => {
                self.node(&mut entry.key)?;
                self.node(&mut entry.value)
            }
            EntryExpr::StructField(field) => self.node(&mut field.value),
        }
    }

    fn name(&mut self, node: &IdedExpr) -> Result<(), ConditionFault> {
        let Expr::Ident(name) = &node.expr else { return Ok(()) };
        if self.bound.contains(name) {
            return Ok(());
        }
        let Some(known) = VARIABLES.into_iter().find(|known| known == name) else {
            let remedy = match nearest(name, VARIABLES) {
                Some(meant) => format!("did you mean `{meant}`? A request has: {}", VARIABLES.join(", ")),
                None => format!("a request has: {}", VARIABLES.join(", ")),
            };
            return Err(self.fault(node, format!("`{name}` is nothing that a request has"), remedy));
        };
        if !self.found.variables.contains(&known) {
            self.found.variables.push(known);
        }
        Ok(())
    }

    fn comprehension(&mut self, node: &mut IdedExpr) -> Result<(), ConditionFault> {
        if self.comprehensions == MAX_COMPREHENSIONS {
            let message = format!("more than {MAX_COMPREHENSIONS} comprehensions within one another");
            return Err(self.fault(node, message, "make several rules of it"));
        }
        let Expr::Comprehension(comprehension) = &mut node.expr else { return Ok(()) };
        let ComprehensionExpr {
            iter_range,
            iter_var,
            iter_var2,
            accu_var,
            accu_init,
            loop_cond,
            loop_step,
            result,
        } = &mut **comprehension;
        self.node(iter_range)?;
        self.node(accu_init)?;
        let before = self.bound.len();
        self.bound.extend([iter_var.clone(), accu_var.clone()]);
        self.bound.extend(iter_var2.clone());
        self.comprehensions += 1;
        [loop_cond, loop_step, result].into_iter().try_for_each(|part| self.node(part))?;
        self.comprehensions -= 1;
        self.bound.truncate(before);
        Ok(())
    }

    fn call(&mut self, node: &mut IdedExpr) -> Result<(), ConditionFault> {
        let Expr::Call(call) = &node.expr else { return Ok(()) };
        let name = call.func_name.clone();
        if !FUNCTIONS.contains(&name.as_str()) && !OPERATORS.contains(&name.as_str()) {
            let remedy = match nearest(&name, FUNCTIONS) {
                Some(meant) => format!("did you mean `{meant}`? There are: {}", FUNCTIONS.join(", ")),
                None => format!("there are: {}", FUNCTIONS.join(", ")),
            };
            return Err(self.fault(node, format!("there is no function `{name}`"), remedy));
        }
        // The list of a `map` or `filter` grows by additions of its own, one element each.
        if name == operators::ADD && self.comprehensions == 0 {
            self.additions += 1;
            if self.additions > MAX_ADDITIONS {
                let message = format!("more than {MAX_ADDITIONS} additions");
                return Err(self.fault(node, message, "compare the parts instead of their concatenation"));
            }
        }
        let compiled = match name.as_str() {
            "matches" => Some(self.literal(node, pattern)?),
            "in_network" => Some(self.literal(node, network)?),
            _ => None,
        };
        let Expr::Call(call) = &mut node.expr else { return Ok(()) };
        if let Some(compiled) = compiled {
            let name = format!("@{}", self.found.literals.len());
            self.found.literals.push(compiled);
            if let Some(last) = call.args.last_mut() {
                last.expr = Expr::Ident(name.clone());
            }
            self.bound.push(name);
        }
        if let Some(target) = &mut call.target {
            self.node(target)?;
        }
        call.args.iter_mut().try_for_each(|argument| self.node(argument))
    }

    /// The last of two operands, which has to be a literal.
    fn literal(
        &self,
        node: &IdedExpr,
        compile: fn(&str) -> Result<Literal, (String, &'static str)>,
    ) -> Result<Literal, ConditionFault> {
        let Expr::Call(call) = &node.expr else { return Err(self.fault(node, "no call", "write a call")) };
        let name = &call.func_name;
        let operands = call.args.len() + usize::from(call.target.is_some());
        let (2, Some(last)) = (operands, call.args.last()) else {
            let message = format!("`{name}` takes two operands");
            return Err(self.fault(node, message, example(name)));
        };
        let Expr::Literal(LiteralValue::String(text)) = &last.expr else {
            let message = format!(
                "the last operand of `{name}` has to be a string in quotes: it is compiled beforehand"
            );
            return Err(self.fault(last, message, example(name)));
        };
        compile(text.inner()).map_err(|(message, remedy)| self.fault(last, message, remedy))
    }
}

fn example(function: &str) -> &'static str {
    match function {
        "in_network" => "for example in_network(client_ip, \"10.0.0.0/8\")",
        _ => "for example path.matches(\"^/v[0-9]+/\")",
    }
}

fn pattern(text: &str) -> Result<Literal, (String, &'static str)> {
    let compiled = RegexBuilder::new(text).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build();
    compiled.map(Literal::Pattern).map_err(|error| {
        // The last line says what is wrong, those before it draw where.
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        (
            format!("{text:?} is no pattern: {why}"),
            "the syntax is that of the Rust crate regex: no look-around, no back-references",
        )
    })
}

fn network(text: &str) -> Result<Literal, (String, &'static str)> {
    let parsed = text.parse::<IpNet>().map(|network| network.trunc());
    parsed.map(Literal::Network).map_err(|_| {
        (format!("{text:?} is no network"), "write an address and a length, for example \"10.0.0.0/8\"")
    })
}

/// False for what surely is something else.
fn may_be_bool(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::Ident(name) => !VARIABLES.contains(&name.as_str()) || name == "websocket",
        Expr::Select(select) => select.test,
        Expr::Comprehension(comprehension) => !matches!(comprehension.accu_init.expr, Expr::List(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => false,
        Expr::Call(call) => match call.func_name.as_str() {
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | operators::INDEX
            | "size"
            | "lower"
            | "decode"
            | "string"
            | "int" => false,
            operators::CONDITIONAL => call.args.iter().skip(1).all(|branch| may_be_bool(&branch.expr)),
            _ => true,
        },
    }
}
