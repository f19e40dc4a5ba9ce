//! The VLAN interfaces that this node has on top of an interface.

use std::fs;

use nix::net::if_::if_nametoindex;

/// A VLAN interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Vlan {
    /// Its VLAN ID.
    pub id: u16,
    /// Its interface index.
    pub index: u32,
}

/// Those on an interface; none where the kernel has no VLANs.
pub fn on(interface: &str) -> Vec<Vlan> {
    let text = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
    let mut vlans: Vec<_> = parse(&text, interface)
        .filter_map(|(name, id)| {
            let index = if_nametoindex(name).ok()?;
            Some(Vlan { id, index })
        })
        .collect();
    vlans.sort_unstable();
    vlans
}

/// Names and VLAN IDs. The file has two lines of headings, then `NAME | ID | INTERFACE`.
fn parse<'a>(text: &'a str, interface: &str) -> impl Iterator<Item = (&'a str, u16)> {
    text.lines().filter_map(move |line| {
        let mut fields = line.split('|').map(str::trim);
        let (name, id) = (fields.next()?, fields.next()?.parse().ok()?);
        (fields.next()? == interface).then_some((name, id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_of_the_interface_are_found_and_no_others() {
        let text = "VLAN Dev name\t | VLAN ID\n\
                    Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    eth0.100       | 100  | eth0\n\
                    storage        | 7  | eth1\n\
                    front          | 4094  | eth0\n";
        let found: Vec<_> = parse(text, "eth0").collect();
        assert_eq!(found, [("eth0.100", 100), ("front", 4094)]);
        assert_eq!(on("torline-none"), []);
    }
}
