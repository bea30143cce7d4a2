//! Sōzu: one worker process below its main process, both counted.

use anyhow::{Context as _, Result};

use super::{ORIGIN_PORTS, Ports};
use crate::{HOST, process::Process, stage::Stage, tls};

pub fn start(stage: &Stage, program: &str, ports: Ports) -> Result<Process> {
    let folder = stage.folder();
    let origins: Vec<String> =
        ORIGIN_PORTS.iter().map(|port| format!("{{ address = \"127.0.0.1:{port}\" }}")).collect();
    let conf = format!(
        "log_level = \"error\"\nlog_target = \"stderr\"\ncommand_socket = \"{folder}/sozu.sock\"\nworker_count = 1\n\
         worker_automatic_restart = false\nmax_connections = {connections}\nbuffer_size = 16393\nmax_buffers = {buffers}\n\
         activate_listeners = true\nfront_timeout = 3600\nback_timeout = 3600\n\n\
         [[listeners]]\nprotocol = \"http\"\naddress = \"127.0.0.1:{http}\"\nfront_timeout = 3600\nback_timeout = 3600\n\n\
         [[listeners]]\nprotocol = \"https\"\naddress = \"127.0.0.1:{https}\"\nfront_timeout = 3600\nback_timeout = 3600\n\
         tls_versions = [\"TLS_V13\"]\n\n\
         [clusters.bench]\nprotocol = \"http\"\nload_balancing = \"ROUND_ROBIN\"\n\
         frontends = [\n  {{ address = \"127.0.0.1:{http}\", hostname = \"{HOST}\" }},\n\
         \x20 {{ address = \"127.0.0.1:{https}\", hostname = \"{HOST}\", certificate = \"{folder}/{cert}\", key = \"{folder}/{key}\", \
         certificate_chain = \"{folder}/{cert}\" }},\n]\nbackends = [{origins}]\n",
        folder = folder.display(),
        http = ports.http,
        https = ports.https,
        cert = tls::CERTIFICATE,
        key = tls::KEY,
        connections = stage.websockets + 100,
        buffers = 2 * stage.websockets + 500,
        origins = origins.join(", "),
    );
    let conf = stage.write("sozu.toml", &conf)?;
    let conf = conf.to_str().context("a path that is not UTF-8")?;
    Process::start(folder, "sozu", stage.cores.proxy, None, &[program, "start", "-c", conf])
}
