use super::*;

#[test]
fn ten_segments_are_under_way_at_first() {
    for (mss, bytes) in [(1_460, 14_600), (536, 5_360), (9_000, 18_000), (2_000, 14_000)] {
        assert_eq!(Sending::new(mss, 0, true).window(), bytes, "{mss}");
    }
    assert_eq!(Sending::new(1_460, 7, true).field(), 115, "rounded up");
    assert_eq!(Sending::new(1_460, 255, true).shift, 14);
}

#[test]
fn a_window_in_use_doubles_in_a_round_trip_and_then_grows_by_a_segment_in_two() {
    let mut sending = Sending::new(1_000, 0, true);
    for _ in 0..10 {
        assert_ne!(sending.acknowledged(1_000, 10_000, 0, Time::ZERO), Marks::SEND_AGAIN);
    }
    assert_eq!(sending.window(), 20_000);
    sending.threshold = 20_000;
    // 17/9 round trips of 20 segments each.
    for _ in 0..38 {
        assert_ne!(sending.acknowledged(1_000, 20_000, 0, Time::ZERO), Marks::SEND_AGAIN);
    }
    assert_eq!(sending.window(), 21_000);
}

#[test]
fn a_window_that_is_not_used_stays() {
    let mut sending = Sending::new(1_000, 0, true);
    for _ in 0..100 {
        assert_ne!(sending.acknowledged(1_000, 1_000, 0, Time::ZERO), Marks::SEND_AGAIN);
    }
    assert_eq!(sending.window(), 10_000);
}

#[test]
fn a_loss_cuts_the_window_once_and_each_partial_ack_asks_for_the_next_segment() {
    let mut sending = Sending::new(1_000, 0, true);
    assert!(!sending.duplicate(10_000, 10_000));
    assert!(!sending.duplicate(10_000, 10_000));
    assert!(sending.duplicate(10_000, 10_000), "the third");
    assert_eq!(sending.window(), 10_000, "0.7, and the three that have left");
    assert!(!sending.duplicate(10_000, 10_000));
    assert_eq!(sending.window(), 11_000);
    assert_eq!(sending.acknowledged(2_000, 10_000, 2_000, Time::ZERO), Marks::SEND_AGAIN, "not all");
    assert_ne!(sending.acknowledged(8_000, 8_000, 10_000, Time::ZERO), Marks::SEND_AGAIN);
    assert!(sending.window() <= 5_000 && !sending.doing.contains(Doing::RECOVERING));
}

#[test]
fn after_a_time_out_one_segment_goes() {
    let mut sending = Sending::new(1_000, 3, true);
    sending.timed_out(10_000, 10_000);
    assert_eq!((sending.window(), sending.field()), (1_000, 125));
    assert_ne!(sending.acknowledged(1_000, 1_000, 1_000, Time::ZERO), Marks::SEND_AGAIN);
    assert_eq!(sending.window(), 2_000);
    for _ in 0..9 {
        assert!(!sending.duplicate(9_000, 10_000), "what was sent again was there");
    }
}

#[test]
fn a_window_that_was_cut_for_what_was_only_late_is_as_before() {
    let ms = |ms: u64| Time::from_micros(1_000 * ms);
    let mut sending = Sending::new(1_000, 0, true);
    sending.measured(Duration::from_millis(10));
    assert_eq!(sending.tend(ms(30), ms(0), 10_000, || false), Tail::Probe);
    sending.acknowledged(1_000, 10_000, 1_000, ms(45));
    assert!(sending.is_recovering() && sending.window() == 7_000, "{sending:?}");
    assert!(!sending.told_of_duplicate(1_000, false));
    assert_eq!((sending.window(), sending.threshold), (10_000, MOST_BYTES));
    sending.told_of_duplicate(2_000, false);
    assert_eq!(sending.window(), 10_000, "once");
}

#[test]
fn an_ack_of_more_than_the_probe_says_that_the_flight_was_late() {
    let ms = |ms: u64| Time::from_micros(1_000 * ms);
    let mut sending = Sending::new(1_000, 0, true);
    sending.measured(Duration::from_millis(10));
    assert_eq!(sending.tend(ms(30), ms(0), 10_000, || false), Tail::Probe);
    assert!(!sending.acknowledged(2_000, 10_000, 2_000, ms(45)).contains(Marks::ALL_LOST));
    assert!(!sending.is_recovering() && sending.window() >= 10_000, "{sending:?}");
}

#[test]
fn no_window_lets_more_than_1_024_segments_out() {
    for (mss, shift) in [(48, 0), (48, 14), (216, 7), (512, 14), (1_460, 0), (9_000, 7)] {
        let mut sending = Sending::new(mss, shift, true);
        for (window, held) in [(1 << 20, 0), (MOST_BYTES, MOST_BYTES), (10_000, 1 << 20)] {
            sending.set_window(window);
            sending.set_held(held);
            let out = u32::from(sending.field()) << shift;
            assert!(out > 0 && out <= 1_024 * u32::from(mss), "{mss} {shift} {window} {held}: {out}");
        }
    }
}
