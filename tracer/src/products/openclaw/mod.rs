//! The OpenClaw gateway.

pub mod config;
mod hints;
pub mod json5;
mod recognise;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::hint::HintRow;
use super::{Access, Environment, FileSettings, Override, Product, ServerSettings};
use crate::model::cause::Cause;

#[derive(Debug)]
pub struct OpenClaw;

impl Product for OpenClaw {
    fn name(&self) -> &'static str {
        "OpenClaw"
    }

    fn runners(&self) -> &'static [&'static str] {
        &recognise::RUNNERS
    }

    fn recognises(&self, name: &[u8], arguments: &[&[u8]]) -> bool {
        recognise::is_gateway(name, arguments)
    }

    fn recognises_client(&self, name: &[u8], arguments: &[&[u8]]) -> bool {
        recognise::is_client(name, arguments)
    }

    fn owner_names(&self) -> &'static [&'static str] {
        &recognise::OWNER_NAMES
    }

    fn recognised_by(&self) -> &'static str {
        recognise::BY
    }

    fn default_port(&self) -> u16 {
        18_789
    }

    /// tracer is pointed at a gateway's port without knowing which port the gateway is configured to have.
    fn serves(&self, _: u16, _: Option<&ServerSettings>) -> bool {
        true
    }

    fn variables(&self) -> &'static [&'static str] {
        &config::VARIABLES
    }

    fn is_secret(&self, variable: &str) -> bool {
        variable.ends_with("_TOKEN") || variable.ends_with("_PASSWORD")
    }

    fn config_paths(
        &self,
        environment: &Environment,
        arguments: &[&[u8]],
        home: Option<&Path>,
    ) -> Vec<PathBuf> {
        config::config_paths(environment, arguments, home)
    }

    fn overrides(&self, environment: &Environment, arguments: &[&[u8]]) -> Vec<Override> {
        config::overrides(environment, arguments)
    }

    fn settings(&self, text: &str) -> Result<FileSettings, String> {
        config::settings(text).map_err(|error| error.to_string())
    }

    fn settings_read(&self) -> Vec<&'static str> {
        config::settings_read()
    }

    fn bind(&self) -> &'static str {
        config::BIND
    }

    fn port(&self) -> &'static str {
        config::PORT
    }

    fn covers(&self, settings: &ServerSettings, addr: IpAddr) -> Option<bool> {
        Some(config::Bind::of(settings)?.covers(addr))
    }

    fn agrees(&self, what: &str, settings: &ServerSettings, addrs: &[IpAddr], ports: &[u16]) -> Option<bool> {
        config::agrees(what, settings, addrs, ports)
    }

    fn leads_away(&self, settings: &ServerSettings) -> Option<&'static str> {
        config::leads_away(settings)
    }

    fn is_of_clients(&self, what: &str) -> bool {
        what == config::MODE
    }

    fn access(&self, settings: &ServerSettings) -> Access {
        config::access(settings)
    }

    fn note_on(&self, cause: Cause) -> Option<&'static str> {
        (cause == Cause::NeverListened).then_some(hints::ON_NEVER_LISTENED)
    }

    fn loopback_setting(&self) -> &'static str {
        "gateway.bind \"loopback\""
    }

    fn hints(&self) -> &'static [HintRow] {
        &hints::ROWS
    }
}
