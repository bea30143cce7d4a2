//! nginx: one worker without a master, the WebSocket recipe of its documents, a cache and tickets for sessions.

use anyhow::{Context as _, Result};

use super::{ORIGIN_PORTS, Ports};
use crate::{HOST, process::Process, stage::Stage, tls};

pub fn start(stage: &Stage, program: &str, ports: Ports) -> Result<Process> {
    let folder = stage.folder();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/nginx-{kind};\n", folder.display()))
        .collect();
    let origins: String =
        ORIGIN_PORTS.iter().map(|port| format!("server 127.0.0.1:{port} max_fails=0;\n")).collect();
    let conf = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nuser root;\npid {folder}/nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections {connections}; multi_accept on; use epoll; }}\n\
         http {{\naccess_log off;\n{temporary}\
         map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n\
         upstream origins {{\n{origins}}}\n\
         server {{\nlisten 127.0.0.1:{http} backlog=65535;\nlisten 127.0.0.1:{https} ssl backlog=65535;\nserver_name {HOST};\n\
         ssl_certificate {folder}/{cert};\nssl_certificate_key {folder}/{key};\nssl_protocols TLSv1.3;\n\
         ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\nssl_session_cache shared:SSL:50m;\nssl_session_timeout 1h;\n\
         location / {{\nproxy_pass http://origins;\nproxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection $connection_upgrade;\nproxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\nproxy_read_timeout 1h;\nproxy_send_timeout 1h;\n}}\n}}\n}}\n",
        folder = folder.display(),
        http = ports.http,
        https = ports.https,
        cert = tls::CERTIFICATE,
        key = tls::KEY,
        connections = 2 * stage.websockets + 2000,
    );
    let conf = stage.write("nginx.conf", &conf)?;
    let conf = conf.to_str().context("a path that is not UTF-8")?;
    let prefix = folder.to_str().context("a path that is not UTF-8")?;
    let command = [program, "-c", conf, "-p", prefix, "-e", "stderr"];
    Process::start(folder, "nginx", stage.cores.proxy, None, &command)
}
