//! Hash tables keyed by numbers that other users choose (process ids, ports, addresses): each table has a random seed, so
//! that no key can be chosen to collide. A refusal looks up some twenty keys: SipHash would be a third of its time.

pub type HashMap<K, V> = std::collections::HashMap<K, V, ahash::RandomState>;
pub type HashSet<K> = std::collections::HashSet<K, ahash::RandomState>;
