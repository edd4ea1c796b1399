//! Which ports are watched from the start of a run.

/// The watched ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    #[default]
    Every,
    Only(Vec<u16>),
}

impl Ports {
    /// From a list as a recording has it, where an empty one is every port.
    pub fn from_list(ports: &[u16]) -> Self {
        if ports.is_empty() { Self::Every } else { Self::Only(ports.to_vec()) }
    }

    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Every => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}
