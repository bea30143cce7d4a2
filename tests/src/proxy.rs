//! A running `weir proxy`.

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use crate::{Conf, Process, SOON, World, eventually};

/// `weir proxy`, killed when this is dropped.
pub struct Proxy {
    pub process: Process,
    /// Its configuration file.
    pub conf: PathBuf,
}

impl World {
    /// Starts `weir proxy` with the configuration, and waits until it accepts on `address`.
    pub fn proxy(&self, conf: &Conf, address: SocketAddr) -> Proxy {
        self.proxy_called("proxy", conf, address)
    }

    /// The same, where there are several: each has a configuration file and a log of its name.
    pub fn proxy_called(&self, name: &str, conf: &Conf, address: SocketAddr) -> Proxy {
        let conf = self.write(&format!("{name}.toml"), &conf.to_string());
        let args = ["proxy", "--config", conf.to_str().expect("a path in UTF-8")];
        let mut proxy = Proxy { process: self.weir(name, args), conf: conf.clone() };
        eventually("a proxy that listens", SOON, || {
            proxy.process.assert_running();
            TcpStream::connect(address).map(drop).map_err(|error| error.to_string())
        });
        proxy
    }
}
