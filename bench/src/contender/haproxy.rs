//! HAProxy: one process in the foreground, one thread, session tickets as by default, splicing where HAProxy thinks that it wins.

use anyhow::{Context as _, Result};

use super::{ORIGIN_PORTS, Ports};
use crate::{process::Process, stage::Stage, tls};

pub fn start(stage: &Stage, program: &str, ports: Ports) -> Result<Process> {
    let servers: String =
        ORIGIN_PORTS.iter().map(|port| format!("  server o{port} 127.0.0.1:{port}\n")).collect();
    let conf = format!(
        "global\n  nbthread 1\n  maxconn {maxconn}\n  maxpipes 200\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         \x20 ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
         \x20 timeout http-request 10s\n  option splice-auto\n  option forwardfor\n\
         frontend clients\n  bind 127.0.0.1:{} backlog 65535\n  bind 127.0.0.1:{} backlog 65535 ssl crt {}\n\
         \x20 default_backend origins\n\
         backend origins\n  balance roundrobin\n{servers}",
        ports.http,
        ports.https,
        stage.folder().join(tls::BUNDLE).display(),
        maxconn = stage.websockets + 100,
    );
    let conf = stage.write("haproxy.cfg", &conf)?;
    let conf = conf.to_str().context("a path that is not UTF-8")?;
    Process::start(stage.folder(), "haproxy", stage.cores.proxy, None, &[program, "-db", "-f", conf])
}
