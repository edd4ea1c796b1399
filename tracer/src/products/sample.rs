//! A product for tests of what handles products: its configuration file is one line, the address to listen on.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Access, Environment, FileSettings, Override, Product, ServerSettings};

#[derive(Debug)]
pub struct Sample;

impl Product for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn runners(&self) -> &'static [&'static str] {
        &["sampled"]
    }

    fn recognises(&self, name: &[u8], _: &[&[u8]]) -> bool {
        name == b"sampled"
    }

    fn owner_names(&self) -> &'static [&'static str] {
        &["sampled"]
    }

    fn recognised_by(&self) -> &'static str {
        "the name `sampled`"
    }

    fn default_port(&self) -> u16 {
        7
    }

    fn variables(&self) -> &'static [&'static str] {
        &[]
    }

    fn is_secret(&self, _: &str) -> bool {
        false
    }

    fn config_paths(&self, _: &Environment, _: &[&[u8]], _: Option<&Path>) -> Vec<PathBuf> {
        vec![PathBuf::from("/etc/sample.conf")]
    }

    fn overrides(&self, _: &Environment, _: &[&[u8]]) -> Vec<Override> {
        Vec::new()
    }

    fn settings(&self, text: &str) -> Result<FileSettings, String> {
        let addr: IpAddr = text.trim_end().parse().map_err(|_| "not an address".to_owned())?;
        let values = vec![("listen".into(), addr.to_string())];
        Ok(FileSettings { values, ..FileSettings::default() })
    }

    fn settings_read(&self) -> Vec<&'static str> {
        vec!["listen"]
    }

    fn bind(&self) -> &'static str {
        "listen"
    }

    fn port(&self) -> &'static str {
        "port"
    }

    fn covers(&self, settings: &ServerSettings, addr: IpAddr) -> Option<bool> {
        Some(settings.effective("listen")?.value == addr.to_string())
    }

    fn agrees(&self, _: &str, settings: &ServerSettings, addrs: &[IpAddr], _: &[u16]) -> Option<bool> {
        Some(addrs.iter().all(|addr| self.covers(settings, *addr) == Some(true)))
    }

    fn access(&self, _: &ServerSettings) -> Access {
        Access::Open("password")
    }

    fn loopback_setting(&self) -> &'static str {
        "listen 127.0.0.1"
    }
}
