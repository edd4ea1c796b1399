//! What the clients of a proxy or forwarder see while the server behind it refuses.

/// Programs by their file names, and what their clients get.
struct Proxy {
    programs: &'static [&'static [u8]],
    clients: &'static str,
}

const PROXIES: [Proxy; 3] = [
    Proxy { programs: &[b"nginx", b"apache2", b"httpd", b"caddy", b"traefik"], clients: "get 502" },
    // As a proxy of TCP it closes.
    Proxy { programs: &[b"haproxy", b"envoy"], clients: "get 503, or a closed connection" },
    // They accept before they connect.
    Proxy {
        programs: &[b"docker-proxy", b"rootlessport", b"socat", b"socat1", b"ssh", b"sshd"],
        clients: "see \"empty reply\" or \"reset\", not \"refused\"",
    },
];

/// What the clients of a program get, as the end of a sentence that begins with them.
pub fn clients_get(program: &[u8]) -> &'static str {
    let known = PROXIES.iter().find(|proxy| proxy.programs.contains(&program));
    known.map_or("get an error, or no answer", |proxy| proxy.clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_listed_once() {
        let mut programs: Vec<&[u8]> = PROXIES.iter().flat_map(|proxy| proxy.programs).copied().collect();
        let count = programs.len();
        programs.sort_unstable();
        programs.dedup();
        assert_eq!(programs.len(), count);
        assert_eq!(clients_get(b"haproxy"), "get 503, or a closed connection");
        assert_eq!(clients_get(b"my-own"), "get an error, or no answer");
    }
}
