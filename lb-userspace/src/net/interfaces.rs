//! The interfaces of this node: their addresses, and what sysfs says of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Where sysfs is mounted.
pub const SYSFS: &str = "/sys";

/// Addresses of every interface, by name; one without is there too.
///
/// # Errors
/// The kernel did not answer.
pub fn addresses() -> io::Result<BTreeMap<String, Vec<IpNet>>> {
    let mut found: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for entry in getifaddrs()? {
        let addresses = found.entry(entry.interface_name).or_default();
        let address = entry.address.as_ref().and_then(ip);
        let mask = entry.netmask.as_ref().and_then(ip);
        if let (Some(address), Some(mask)) = (address, mask)
            && let Ok(network) = IpNet::with_netmask(address, mask)
        {
            addresses.push(network);
        }
    }
    Ok(found)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
    let v6 = || address.as_sockaddr_in6().map(|it| IpAddr::from(it.ip()));
    v4.or_else(v6)
}

/// sysfs, or what a test takes for it.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

/// Virtual functions of a network card (SR-IOV).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VirtualFunctions {
    /// Those there are.
    pub present: u32,
    /// Those there could be.
    pub possible: u32,
}

impl Sysfs {
    /// Mounted here.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Virtual functions of an interface; none of one that has no hardware.
    pub fn virtual_functions(&self, interface: &str) -> VirtualFunctions {
        let number = |name: &str| {
            let text = self.read(interface, &format!("device/{name}"));
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        VirtualFunctions {
            present: number("sriov_numvfs"),
            possible: number("sriov_totalvfs"),
        }
    }

    /// What somebody calls an interface (`ip link set … alias …`).
    pub fn alias(&self, interface: &str) -> Option<String> {
        self.read(interface, "ifalias")
            .filter(|alias| !alias.is_empty())
    }

    fn read(&self, interface: &str, file: &str) -> Option<String> {
        let path = self.root.join("class/net").join(interface).join(file);
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_addresses_with_their_lengths() {
        let found = addresses().unwrap();
        assert!(
            found["lo"].contains(&"127.0.0.1/8".parse().unwrap()),
            "{found:?}"
        );
    }

    #[test]
    fn virtual_functions_and_aliases_are_read_from_the_tree_that_is_given() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("class/net/eth1/device");
        fs::create_dir_all(&device).unwrap();
        fs::create_dir_all(root.path().join("class/net/eth2")).unwrap();
        fs::write(device.join("sriov_numvfs"), "4\n").unwrap();
        fs::write(device.join("sriov_totalvfs"), "64\n").unwrap();
        fs::write(root.path().join("class/net/eth1/ifalias"), "Port2\n").unwrap();
        fs::write(root.path().join("class/net/eth2/ifalias"), "\n").unwrap();

        let sysfs = Sysfs::new(root.path());
        let functions = sysfs.virtual_functions("eth1");
        assert_eq!((functions.present, functions.possible), (4, 64));
        assert_eq!(sysfs.alias("eth1").as_deref(), Some("Port2"));
        for interface in ["eth2", "eth3"] {
            let none = VirtualFunctions::default();
            assert_eq!(sysfs.virtual_functions(interface), none, "{interface}");
            assert_eq!(sysfs.alias(interface), None, "{interface}");
        }
    }
}
