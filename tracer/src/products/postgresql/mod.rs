//! The PostgreSQL server.

mod config;
mod hints;
mod recognise;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::hint::HintRow;
use super::{Access, Environment, FileSettings, Override, Product, ServerSettings};

#[derive(Debug)]
pub struct PostgreSql;

impl Product for PostgreSql {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn runners(&self) -> &'static [&'static str] {
        &recognise::RUNNERS
    }

    fn recognises(&self, name: &[u8], arguments: &[&[u8]]) -> bool {
        recognise::is_server(name, arguments)
    }

    fn owner_names(&self) -> &'static [&'static str] {
        &recognise::OWNER_NAMES
    }

    fn recognised_by(&self) -> &'static str {
        recognise::BY
    }

    fn default_port(&self) -> u16 {
        config::DEFAULT_PORT
    }

    fn variables(&self) -> &'static [&'static str] {
        &config::VARIABLES
    }

    fn is_secret(&self, _: &str) -> bool {
        false
    }

    fn config_paths(&self, environment: &Environment, arguments: &[&[u8]], _: Option<&Path>) -> Vec<PathBuf> {
        config::config_paths(environment, arguments)
    }

    fn overlays(
        &self,
        environment: &Environment,
        arguments: &[&[u8]],
        file: Option<&FileSettings>,
    ) -> Vec<PathBuf> {
        config::overlays(environment, arguments, file)
    }

    fn overrides(&self, _: &Environment, arguments: &[&[u8]]) -> Vec<Override> {
        config::overrides(arguments)
    }

    fn fallbacks(&self, environment: &Environment) -> Vec<Override> {
        config::fallbacks(environment)
    }

    fn settings(&self, text: &str) -> Result<FileSettings, String> {
        config::settings(text)
    }

    fn settings_read(&self) -> Vec<&'static str> {
        config::SHOWN.to_vec()
    }

    fn bind(&self) -> &'static str {
        config::LISTEN_ADDRESSES
    }

    fn port(&self) -> &'static str {
        config::PORT
    }

    fn covers(&self, settings: &ServerSettings, addr: IpAddr) -> Option<bool> {
        config::covers(settings, addr)
    }

    fn agrees(&self, what: &str, settings: &ServerSettings, addrs: &[IpAddr], ports: &[u16]) -> Option<bool> {
        config::agrees(what, settings, addrs, ports)
    }

    fn access(&self, _: &ServerSettings) -> Access {
        config::ACCESS
    }

    fn loopback_setting(&self) -> &'static str {
        "listen_addresses = 'localhost'"
    }

    fn hints(&self) -> &'static [HintRow] {
        &hints::ROWS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::products::ProductRef;
    use crate::products::recognise::{Named, Recognition};

    #[test]
    fn it_serves_its_default_port_and_the_configured_one() {
        let product = ProductRef::new(&PostgreSql);
        let mut settings = ServerSettings::of(product);
        assert!(product.serves(5432, None) && product.serves(5432, Some(&settings)));
        assert!(!product.serves(5433, None) && !product.serves(5433, Some(&settings)));
        settings.overrides = product.overrides(&[], &[b"postgres", b"-p", b"5433"]);
        assert!(product.serves(5433, Some(&settings)) && product.serves(5432, Some(&settings)));
        assert!(!product.serves(18_789, Some(&settings)));
    }

    #[test]
    fn it_is_recognised_before_the_pattern() {
        let recognition = Recognition { patterns: vec!["postgres".parse().unwrap()] };
        let product = Named::Product(ProductRef::new(&PostgreSql));
        assert_eq!(recognition.recognise(b"postgres", None, b"postgres\0-D\0/data\0"), Some(product));
        assert_eq!(
            recognition.recognise(b"my-postgres", None, b"my-postgres\0"),
            Some(Named::Pattern { port: None })
        );
        assert_eq!(recognition.recognise(b"tail", None, b"tail\0postgres.log\0"), None);
    }
}
