//! Connections whose slot names another node than the one that has them, and
//! tunnels between nodes.

use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use harness::cluster::SETTLE;
use harness::source::{Condition, Service};
use harness::tables::Tables;
use harness::topology::{Pod, Topology};
use harness::traffic::client::Connection;
use harness::traffic::echo::EchoServer;
use harness::wait;
use lb_common::outcome::Outcome;

use crate::fixture::{DUAL, Running, TARGETS, running_after, running_on, web};

/// Ten mebibytes.
const BULK: usize = 10 << 20;
/// Connections of each family.
const OPEN: usize = 100;

#[test]
fn connections_on_a_segment_go_on_when_their_slots_name_other_nodes() {
    let Some(lab) = connections_go_on(running_on(3, forwarded("l2"), &DUAL)) else {
        return;
    };
    assert_eq!(lab.counted(Outcome::Tunnelled), 0);
}

#[test]
fn connections_through_tunnels_go_on_when_their_slots_name_other_nodes() {
    let Some(lab) = connections_go_on(running_on(3, forwarded("geneve"), &DUAL)) else {
        return;
    };
    assert!(lab.counted(Outcome::Tunnelled) > 0);
}

#[test]
fn connections_to_nodes_beyond_a_router_go_through_tunnels_and_go_on() {
    let parted = |topology: &Topology| topology.part_nodes().unwrap();
    let Some(lab) = connections_go_on(running_after(3, web(DUAL), &DUAL, parted)) else {
        return;
    };
    assert!(lab.counted(Outcome::Tunnelled) > 0);
}

#[test]
fn a_service_that_is_to_take_tunnels_takes_them_and_carries_ten_mebibytes() {
    let Some(lab) = running_on(2, forwarded("geneve"), &DUAL) else {
        return;
    };
    lab.widen(1_600);
    for vip in DUAL {
        lab.assert_tcp(vip, 80);
        lab.client()
            .transfer(SocketAddr::new(vip, 80), BULK)
            .unwrap();
    }
    assert!(lab.counted(Outcome::Tunnelled) > 0);
}

fn connections_go_on(lab: Option<Running>) -> Option<Running> {
    let mut lab = lab?;
    let open = |lab: &Running, vip| {
        let target = SocketAddr::new(vip, 80);
        lab.client().open(target, OPEN).all().unwrap()
    };
    let connections = DUAL.map(|vip| open(&lab, vip));
    let _more = lab.add_pods();
    for (vip, connections) in DUAL.into_iter().zip(connections) {
        let moved = lab.moved(&connections);
        assert!(moved > 0, "no connection to {vip} has another slot");
        let before = lab.counted(Outcome::ChainHit);
        let good = lab.client().verify(connections).all().unwrap();
        assert_eq!(good.len(), OPEN);
        let chained = lab.counted(Outcome::ChainHit) - before;
        assert!(
            chained > 0,
            "{vip}: {moved} moved, and no chain led to them"
        );
    }
    Some(lab)
}

/// A Service of both families whose packets take this way.
fn forwarded(way: &'static str) -> Vec<Service> {
    let mut services = web(DUAL);
    for service in &mut services {
        service.forwarding = Some(way);
    }
    services
}

impl Running {
    /// Lets full segments and their tunnels through the nodes' segment.
    fn widen(&self, mtu: u32) {
        self.cluster.topology.set_mtu(mtu).unwrap();
        for agent in &self.cluster.agents {
            let tables = Tables::of_process(agent.id()).unwrap();
            wait::until("the programs to know the MTU", SETTLE, || {
                let found = tables.config()?.mtu;
                ensure!(found == mtu, "it is {found}");
                Ok(())
            })
            .unwrap();
        }
    }

    /// Two more pods on each node, to which new connections go.
    fn add_pods(&mut self) -> Vec<EchoServer> {
        let topology = &mut self.cluster.topology;
        let mut servers = Vec::new();
        for index in (0..topology.nodes.len()).chain(0..topology.nodes.len()) {
            let pod = topology.add_pod(index).unwrap();
            servers.push(EchoServer::start(&pod.netns, &pod.name, &TARGETS).unwrap());
        }
        self.cluster.write_endpoints(|_| Condition::Ready).unwrap();
        self.cluster.wait_serving(|_| true).unwrap();
        servers
    }

    /// How often something happened on all nodes.
    fn counted(&self, outcome: Outcome) -> u64 {
        let agents = self.cluster.agents.iter();
        let statuses = agents.map(|agent| agent.status().unwrap());
        statuses.map(|status| status.outcomes[outcome.name()]).sum()
    }

    /// Connections whose slot names a pod on another node than theirs.
    fn moved(&self, connections: &[Connection]) -> usize {
        let agent = &self.cluster.agents[0];
        let tables = Tables::of_process(agent.id()).unwrap();
        let node = |wanted: &dyn Fn(&Pod) -> bool| {
            let mut pods = self.cluster.topology.pods();
            pods.find(|pod| wanted(pod)).map(|pod| pod.node.clone())
        };
        let is_elsewhere = |connection: &&Connection| {
            let addr: IpAddr = tables.backend(connection.local, connection.target).unwrap();
            node(&|pod| pod.addresses.contains(&addr))
                != node(&|pod| pod.name == connection.greeting.pod)
        };
        connections.iter().filter(is_elsewhere).count()
    }
}
