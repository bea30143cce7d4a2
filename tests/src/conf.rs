//! Configurations of tests, as the TOML that an operator would write.

use std::{
    fmt::{self, Display, Formatter},
    net::SocketAddr,
};

use crate::{ADMIN, HTTP, ORIGIN};

/// A configuration that is being written. The agent audits itself every second in all of them.
#[derive(Clone)]
pub struct Conf {
    instance: String,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    proxy: Vec<String>,
    agent: Vec<String>,
    xdp: Vec<String>,
    listeners: Vec<String>,
    plans: Vec<String>,
    sections: Vec<String>,
    policy: Vec<String>,
    zones: Vec<ZoneConf>,
}

/// One zone of it.
#[derive(Clone)]
pub struct ZoneConf {
    name: String,
    plan: String,
    origins: Vec<SocketAddr>,
    tls: Option<(String, String)>,
    lines: Vec<String>,
}

impl ZoneConf {
    pub fn new(name: &str, plan: &str) -> Self {
        Self {
            name: name.to_owned(),
            plan: plan.to_owned(),
            origins: vec![ORIGIN],
            tls: None,
            lines: Vec::new(),
        }
    }

    pub fn origin(mut self, origin: SocketAddr) -> Self {
        self.origins = vec![origin];
        self
    }

    /// One more origin.
    pub fn also(mut self, origin: SocketAddr) -> Self {
        self.origins.push(origin);
        self
    }

    /// A further line.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Names of PEM files in the world's folder.
    pub fn tls(mut self, cert: &str, key: &str) -> Self {
        self.tls = Some((cert.to_owned(), key.to_owned()));
        self
    }
}

impl Conf {
    pub(crate) fn new(instance: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            http: vec![HTTP],
            https: Vec::new(),
            proxy: Vec::new(),
            // Beside the configuration: two worlds must not meet.
            agent: ["audit_interval = \"1s\"", "socket = \"agent.sock\"", "ledger = \"ledger.db\""]
                .map(str::to_owned)
                .to_vec(),
            xdp: Vec::new(),
            listeners: Vec::new(),
            plans: Vec::new(),
            sections: Vec::new(),
            policy: Vec::new(),
            zones: Vec::new(),
        }
    }

    /// These cleartext listeners instead of [`HTTP`].
    pub fn http(mut self, addresses: &[SocketAddr]) -> Self {
        self.http = addresses.to_vec();
        self
    }

    pub fn https(mut self, addresses: &[SocketAddr]) -> Self {
        self.https = addresses.to_vec();
        self
    }

    /// A line of `[proxy]`.
    pub fn proxy(mut self, line: &str) -> Self {
        self.proxy.push(line.to_owned());
        self
    }

    /// A line of `[agent]`.
    pub fn agent(mut self, line: &str) -> Self {
        self.agent.push(line.to_owned());
        self
    }

    /// This time between two audits instead of a second.
    pub fn audit(mut self, interval: &str) -> Self {
        self.agent.retain(|line| !line.starts_with("audit_interval"));
        self.agent(&format!("audit_interval = \"{interval}\""))
    }

    /// This ledger instead of the one beside the configuration.
    pub fn ledger(mut self, path: &str) -> Self {
        self.agent.retain(|line| !line.starts_with("ledger"));
        self.agent(&format!("ledger = \"{path}\""))
    }

    /// A line of `[xdp]`.
    pub fn xdp(mut self, line: &str) -> Self {
        self.xdp.push(line.to_owned());
        self
    }

    /// A line of `[policy]`: `contact.grace_days = 1`.
    pub fn policy(mut self, line: &str) -> Self {
        self.policy.push(line.to_owned());
        self
    }

    /// An address on which another server than weir's listens, with further lines.
    pub fn listener(mut self, address: SocketAddr, lines: &str) -> Self {
        self.listeners.push(format!("[[listeners]]\naddress = \"{address}\"\n{lines}\n"));
        self
    }

    /// A plan with this guideline and this abuse cap.
    pub fn plan(mut self, name: &str, guideline: u64, abuse_cap: u64) -> Self {
        self.plans.push(format!("[plans.{name}]\nguideline = {guideline}\nabuse_cap = {abuse_cap}\n"));
        self
    }

    /// A further line of the last plan.
    pub fn of_plan(mut self, line: &str) -> Self {
        let plan = self.plans.last_mut().expect("a plan to add to");
        plan.push_str(line);
        plan.push('\n');
        self
    }

    /// A section with its header.
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push(text.to_owned());
        self
    }

    pub fn zone(self, name: &str, plan: &str) -> Self {
        self.with_zone(ZoneConf::new(name, plan))
    }

    pub fn with_zone(mut self, zone: ZoneConf) -> Self {
        self.zones.push(zone);
        self
    }
}

fn addresses(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

impl Display for Conf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "instance = \"{}\"\n\n[proxy]", self.instance)?;
        writeln!(f, "http = {}\nhttps = {}", addresses(&self.http), addresses(&self.https))?;
        self.proxy.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "\n[agent]\nadmin = \"{ADMIN}\"")?;
        self.agent.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "\n[xdp]")?;
        self.xdp.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.listeners.iter().try_for_each(|listener| write!(f, "\n{listener}"))?;
        self.plans.iter().try_for_each(|plan| write!(f, "\n{plan}"))?;
        self.sections.iter().try_for_each(|section| writeln!(f, "\n{section}"))?;
        writeln!(f, "\n[policy]")?;
        self.policy.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        for ZoneConf { name, plan, origins, tls, lines } in &self.zones {
            let origins: Vec<_> = origins.iter().map(|origin| format!("\"ws://{origin}\"")).collect();
            let origins = origins.join(", ");
            write!(f, "\n[[zones]]\nname = \"{name}\"\nplan = \"{plan}\"\norigins = [{origins}]\n")?;
            if let Some((cert, key)) = tls {
                writeln!(f, "tls = {{ cert = \"{cert}\", key = \"{key}\" }}")?;
            }
            lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        }
        Ok(())
    }
}
