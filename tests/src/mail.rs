//! A mail server of another make: aiosmtpd, by `tests/python/mail.py`.

use std::path::Path;

use serde_json::Value;

use crate::{Process, World, python};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/mail.py");

/// A running server. It reads mail aloud.
pub struct MailServer(pub Process);

impl MailServer {
    /// `args` as `mail.py` has them, after the port.
    pub fn start(world: &World, port: u16, args: &[&str]) -> Self {
        let port = port.to_string();
        let args = [SERVER, port.as_str()].into_iter().chain(args.iter().copied());
        let mut process = Process::start(world.folder(), "mail", Path::new(python::interpreter()), args);
        assert_eq!(process.hear(), "\"ready\"");
        Self(process)
    }

    /// The next message.
    pub fn receive(&mut self) -> Value {
        serde_json::from_str(&self.0.hear()).expect("a line of JSON")
    }
}
