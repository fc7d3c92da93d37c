use tokio::net::UdpSocket;

use super::*;

const ROUTER: Ipv4Addr = Ipv4Addr::new(127, 77, 3, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn the_best_default_route_is_taken() {
    let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth1\t00000000\t0900000A\t0002\t0\t0\t1\t00000000\t0\t0\t0\n\
        tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000000A\t00000000\t0001\t0\t0\t100\t000000FF\t0\t0\t0\n";
    let expected = if cfg!(target_endian = "little") { [10, 0, 0, 1] } else { [1, 0, 0, 10] };
    assert_eq!(gateway_of(table), Some(expected.into()));
    for broken in ["", "Iface", "x\ny z", "a\nb 00000000 zz 0003 0 0 0 00000000"] {
        assert_eq!(gateway_of(broken), None);
    }
}

/// A router that speaks NAT-PMP only (RFC 6886), strictly: it answers PCP with the versions that it has, and grants a port next
/// to the one that is asked for. What was granted and given back is told in order: port and seconds.
fn router(socket: UdpSocket) -> mpsc::UnboundedReceiver<(u8, u16, u32)> {
    let (told, tale) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 1100];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let mut answer = vec![0, 0x80 | buffer[1], 0, 0, 0, 0, 0, 9];
            match buffer[..len] {
                [2, _, ..] => answer[3] = 1,
                [0, 0] => answer.extend(OUTSIDE.octets()),
                [0, op @ (1 | 2), 0, 0, i1, i2, e1, e2, l1, l2, l3, l4] => {
                    let (lifetime, wanted) = (u32::from_be_bytes([l1, l2, l3, l4]), u16::from_be_bytes([e1, e2]));
                    let granted = if lifetime == 0 { 0 } else { wanted.wrapping_add(1) };
                    answer.extend([i1, i2]);
                    answer.extend(granted.to_be_bytes());
                    answer.extend([l1, l2, l3, l4]);
                    let _ = told.send((op, u16::from_be_bytes([i1, i2]), lifetime));
                }
                _ => panic!("{:?} is no request", &buffer[..len]),
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    tale
}

#[tokio::test]
async fn a_port_is_asked_for_and_given_back_at_the_end() {
    let mut tale = router(UdpSocket::bind((ROUTER, crab_nat::GATEWAY_PORT)).await.unwrap());
    let (commands, mut requests) = mpsc::channel(4);
    let (status, mut seen) = watch::channel(PortMapping::Off);
    let udp = Some(SocketAddr::from(([127, 0, 0, 1], 7400)));
    let task = Mapper { udp, tcp: udp, commands, status, router: || Some(ROUTER) }.start();
    let Some(Command::Forwarded(addrs)) = requests.recv().await else { panic!("nothing") };
    // TCP is asked for at the port that UDP got.
    assert_eq!(addrs, [SocketAddr::from((OUTSIDE, 7401)), SocketAddr::from((OUTSIDE, 7402))]);
    let by = MappedBy::NatPmp;
    assert_eq!(*seen.borrow_and_update(), PortMapping::Forwarded { addr: (OUTSIDE, 7401).into(), by });
    assert_eq!(tale.recv().await, Some((1, 7400, 7200)));
    assert_eq!(tale.recv().await, Some((2, 7400, 7200)));
    requests.close();
    task.await.unwrap();
    assert_eq!(tale.recv().await, Some((1, 7400, 0)));
    assert_eq!(tale.recv().await, Some((2, 7400, 0)));
    assert_eq!(*seen.borrow(), PortMapping::Off);
}

#[tokio::test]
async fn without_a_router_or_its_consent_the_reason_is_readable() {
    for (router, reason) in [((|| None) as fn() -> _, "default gateway"), (|| Some([127, 77, 3, 9].into()), "UPnP")] {
        let (commands, _requests) = mpsc::channel(4);
        let (status, mut seen) = watch::channel(PortMapping::Off);
        let udp = Some(SocketAddr::from(([127, 0, 0, 1], 7400)));
        let task = Mapper { udp, tcp: None, commands, status, router }.start();
        let failed = seen.wait_for(|status| matches!(status, PortMapping::Failed { .. })).await.unwrap().clone();
        let PortMapping::Failed { why } = failed else { unreachable!() };
        assert!(why.contains(reason), "{why}");
        task.abort();
    }
}
