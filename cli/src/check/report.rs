//! What was found, as a list for people and as JSON.

use std::path::Path;

use serde::Serialize;
use weir_config::Fault;

use crate::{
    settings::DEFAULT_FILE,
    text::{Line, Style},
};

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Configuration,
    Host,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub group: Group,
    pub name: String,
    pub ok: bool,
    pub found: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

impl Finding {
    /// Something of the configuration that is right.
    pub fn right(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            group: Group::Configuration,
            name: name.into(),
            ok: true,
            found: found.into(),
            remedy: String::new(),
        }
    }

    /// Something of the configuration that will not work on this host.
    pub fn wrong(name: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { ok: false, remedy: remedy.into(), ..Self::right(name, found) }
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub ok: bool,
    /// The file that was checked, if one was.
    config: Option<String>,
    faults: Vec<Fault>,
    findings: Vec<Finding>,
}

impl Report {
    pub fn new(config: Option<&Path>, faults: Vec<Fault>, findings: Vec<Finding>) -> Self {
        let ok = faults.is_empty() && findings.iter().all(|finding| finding.ok);
        Self { ok, config: config.map(|path| path.display().to_string()), faults, findings }
    }

    /// The list for people.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        match &self.config {
            Some(path) => {
                lines.push(Line::new(Style::Strong, format!("configuration {path}")));
                lines.extend(self.faults.iter().flat_map(fault_lines));
                lines.extend(self.of(Group::Configuration));
            }
            None => {
                let text = format!("no configuration: {DEFAULT_FILE} does not exist; name one with --config");
                lines.push(Line::new(Style::Warn, text));
            }
        }
        lines.push(Line::new(Style::Strong, "host"));
        lines.extend(self.of(Group::Host));
        lines.push(self.summary());
        lines
    }

    fn of(&self, group: Group) -> impl Iterator<Item = Line> {
        let width = self.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        self.findings
            .iter()
            .filter(move |finding| finding.group == group)
            .flat_map(move |finding| finding_lines(finding, width))
    }

    fn summary(&self) -> Line {
        let failed = self.faults.len() + self.findings.iter().filter(|finding| !finding.ok).count();
        match failed {
            0 => Line::new(Style::Good, "all is well"),
            1 => Line::new(Style::Bad, "1 thing to do"),
            _ => Line::new(Style::Bad, format!("{failed} things to do")),
        }
    }
}

fn mark(ok: bool) -> Line {
    if ok { Line::new(Style::Good, "  ok      ") } else { Line::new(Style::Bad, "  failed  ") }
}

fn remedy(text: &str) -> Line {
    Line::new(Style::Plain, "          ").and(Style::Accent, format!("remedy: {text}"))
}

fn finding_lines(finding: &Finding, width: usize) -> Vec<Line> {
    let Finding { name, ok, found, remedy: todo, .. } = finding;
    let mut lines = vec![mark(*ok).and(Style::Plain, format!("{name:width$}  {found}"))];
    if !ok {
        lines.push(remedy(todo));
    }
    lines
}

fn fault_lines(fault: &Fault) -> [Line; 2] {
    let Fault { file, line, column, message, remedy: todo } = fault;
    let place = format!("{}:{line}:{column}: ", file.display());
    [mark(false).and(Style::Strong, place).and(Style::Plain, message), remedy(todo)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_text;

    fn report(findings: Vec<Finding>) -> Report {
        Report::new(Some(Path::new("w.toml")), Vec::new(), findings)
    }

    #[test]
    fn what_fails_is_followed_by_its_remedy() {
        let host = Finding { group: Group::Host, ..Finding::right("kernel", "6.18") };
        let user = Finding::wrong("proxy.user", "no user is called `x`", "create it");
        let expected = "\
configuration w.toml
  failed  proxy.user  no user is called `x`
          remedy: create it
host
  ok      kernel      6.18
1 thing to do
";
        assert_eq!(to_text(&report(vec![host, user]).lines(), false), expected);
    }

    #[test]
    fn a_report_without_failures_is_ok() {
        let good = report(vec![Finding::right("zones", "12")]);
        assert!(good.ok);
        assert!(to_text(&good.lines(), false).ends_with("all is well\n"));
    }

    #[test]
    fn faults_keep_their_places() {
        let fault = Fault {
            file: "/etc/w.toml".into(),
            line: 3,
            column: 7,
            message: "unknown key `x`".to_owned(),
            remedy: "remove it".to_owned(),
        };
        let report = Report::new(Some(Path::new("/etc/w.toml")), vec![fault], Vec::new());
        assert!(!report.ok);
        let text = to_text(&report.lines(), false);
        let expected = "  failed  /etc/w.toml:3:7: unknown key `x`\n          remedy: remove it\n";
        assert!(text.contains(expected), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["faults"][0]["line"], 3);
        assert_eq!(json["ok"], false);
    }
}
