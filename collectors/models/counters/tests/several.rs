//! Several servers behind one address, and restarts that look like them.

use super::*;

#[tokio::test]
async fn two_servers_behind_one_address_are_told_and_not_counted() {
    let mut rig = Rig::new(vllm::metrics::open);
    for round in 0..4 {
        let sums = rig.look(&of_vllm(START - 900, 1000 + round, 0, 9, 9)).await;
        assert!(sums.is_empty(), "{sums:?}");
        let sums = rig.look(&of_vllm(START - 500, 2000 + round, 0, 9, 9)).await;
        assert!(sums.is_empty(), "{sums:?}");
    }
    let trouble = rig.feed.trouble().unwrap();
    assert!(trouble.contains("load balancer"), "{trouble}");
}

#[tokio::test]
async fn counters_that_fall_again_and_again_are_not_of_one_server() {
    let mut rig = Rig::new(tgi::metrics::open);
    let page = |requests: u64| format!("tgi_request_success {requests}\n");
    for turn in 0..20 {
        for requests in [500 + turn, 400 + turn] {
            let sums = rig.look(&page(requests)).await;
            assert!(sums.is_empty(), "{turn}: {sums:?}");
        }
    }
    assert!(rig.feed.trouble().unwrap().contains("load balancer"));
    // A table for each of them: what was counted up to then is of nobody knows whom.
    let sums = rig.settle(&page(600)).await;
    assert!(sums.is_empty(), "{sums:?}");
    let sums = rig.look(&page(603)).await;
    assert_eq!(sums[0].requests, Some(3));
}

#[tokio::test]
async fn counters_that_fell_are_told_when_they_only_rise() {
    let mut rig = Rig::new(tgi::metrics::open);
    let page = |requests: u64| format!("tgi_request_success {requests}\n");
    rig.look(&page(500)).await;
    assert!(rig.look(&page(2)).await.is_empty());
    assert!(rig.feed.details().concat().contains("its counters fell"));
    assert!(rig.look(&page(5)).await.is_empty());
    // A restart of ours in between goes on from what was before the fall.
    rig.reopen();
    assert!(rig.look(&page(7)).await.is_empty());
    let sums = rig.settle(&page(9)).await;
    assert_eq!(sums[0].requests, Some(9), "all since the restart");
    assert!(!rig.feed.details().concat().contains("its counters fell"));
    assert_eq!(rig.look(&page(10)).await[0].requests, Some(1));
    assert_eq!(rig.feed.trouble(), None);
}

#[tokio::test]
async fn triton_behind_a_load_balancer_tells_nothing_and_says_so() {
    let mut rig = Rig::new(|site, host| triton::metrics::open(&wanted(&[]), site, host));
    let page = |a: u64, b: u64| {
        format!(
            "nv_inference_request_success{{model=\"a\",version=\"1\"}} {a}\n\
             nv_inference_request_success{{model=\"b\",version=\"1\"}} {b}\n"
        )
    };
    rig.look(&page(9, 5)).await;
    assert!(rig.look(&page(2, 6)).await.is_empty());
    let sums = rig.settle(&page(3, 6)).await;
    let told: Vec<_> = sums.iter().map(|sum| sum.requests).collect();
    assert_eq!(told, [Some(3), Some(1)], "one model was loaded anew");
    assert_eq!(rig.feed.trouble(), None);
    for turn in 0..20 {
        let sums = [
            rig.look(&page(90, 70)).await,
            rig.look(&page(100, 50)).await,
        ];
        assert!(turn == 0 || sums.concat().is_empty(), "{turn}: {sums:?}");
    }
    let trouble = rig.feed.trouble().expect("two servers");
    assert!(trouble.contains("must stay loaded"), "{trouble}");
}
