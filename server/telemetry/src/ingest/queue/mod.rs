//! What waits to be stored: bounded in all and for each gateway, and left in turns.

mod turns;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use ev_domain::VehicleId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use turns::{FlowId, Turns};

/// What waits.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Notify,
    /// A permit for each reading that is taken in and not applied yet.
    room: Arc<Semaphore>,
    room_max: u32,
}

struct Waiting<T> {
    turns: Turns<T>,
    /// Those with sessions.
    gateways: HashMap<VehicleId, Gateway>,
    is_closed: bool,
}

/// A gateway, whatever number of sessions it has.
struct Gateway {
    flow: FlowId,
    share: Arc<Share>,
    seats: usize,
}

/// What a gateway has in the queue.
#[derive(Default)]
struct Share {
    readings: AtomicU32,
    less: Notify,
}

/// A session's place; given up when it is dropped.
pub(super) struct Seat<T> {
    queue: Arc<Queue<T>>,
    gateway: VehicleId,
    flow: FlowId,
    share: Arc<Share>,
}

/// Room for a batch, until it is dropped.
pub(super) struct Room {
    permit: OwnedSemaphorePermit,
    share: Arc<Share>,
}

/// Nothing more is taken in.
#[derive(Debug)]
pub(super) struct Closed;

// === impl Queue ===

impl<T> Queue<T> {
    /// A queue with room for so many readings.
    pub(super) fn new(readings_max: u32) -> Queue<T> {
        let room_max = readings_max.clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        let waiting = Waiting { turns: Turns::new(), gateways: HashMap::new(), is_closed: false };
        Queue {
            waiting: Mutex::new(waiting),
            arrived: Notify::new(),
            room: Arc::new(Semaphore::new(room_max as usize)),
            room_max,
        }
    }

    /// A place for a session of a gateway: all its sessions have one turn.
    pub(super) fn sit(self: &Arc<Queue<T>>, gateway: &VehicleId) -> Seat<T> {
        let mut waiting = self.waiting();
        let Waiting { turns, gateways, .. } = &mut *waiting;
        let known = gateways.entry(gateway.clone());
        let known = known.or_insert_with(|| Gateway { flow: turns.join(), share: Arc::default(), seats: 0 });
        known.seats += 1;
        let (flow, share) = (known.flow, Arc::clone(&known.share));
        Seat { queue: Arc::clone(self), gateway: gateway.clone(), flow, share }
    }

    /// Readings that there is no room for now, as a share of all, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn saturation(&self) -> f64 {
        (1.0 - self.room.available_permits() as f64 / f64::from(self.room_max)).clamp(0.0, 1.0)
    }

    /// Waits for something, and takes it and what is next, as long as `goes_on` says so of the one before; none when the
    /// queue is closed and empty.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing was taken.
    pub(super) async fn take(&self, mut goes_on: impl FnMut(&T) -> bool) -> Option<Vec<T>> {
        let mut group = Vec::new();
        loop {
            {
                let mut waiting = self.waiting();
                while let Some(next) = waiting.turns.pop() {
                    let is_last = !goes_on(&next);
                    group.push(next);
                    if is_last {
                        break;
                    }
                }
                if !group.is_empty() {
                    return Some(group);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Takes nothing more in. What is there is still to be taken.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.arrived.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seat ===

impl<T> Seat<T> {
    /// Waits for room for so many readings: as much as there is in the queue for a gateway that has nothing in it, and
    /// for one that has, as long as it leaves as much as it has. So however many fill it, there is room for another.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, no room is taken.
    pub(super) async fn room(&self, readings: usize) -> Result<Room, Closed> {
        let readings = u32::try_from(readings).unwrap_or(u32::MAX).clamp(1, self.queue.room_max);
        while !self.leaves_enough(readings) {
            let mut less = pin!(self.share.less.notified());
            // From here on nothing is missed.
            less.as_mut().enable();
            if !self.leaves_enough(readings) {
                less.await;
            }
        }
        let permit = Arc::clone(&self.queue.room).acquire_many_owned(readings).await.map_err(|_| Closed)?;
        self.share.readings.fetch_add(readings, Relaxed);
        Ok(Room { permit, share: Arc::clone(&self.share) })
    }

    /// The same, where there is nothing to wait for.
    pub(super) fn room_now(&self, readings: usize) -> Option<Result<Room, Closed>> {
        let readings = u32::try_from(readings).unwrap_or(u32::MAX).clamp(1, self.queue.room_max);
        if !self.leaves_enough(readings) {
            return None;
        }
        let permit = match Arc::clone(&self.queue.room).try_acquire_many_owned(readings) {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => return None,
            Err(TryAcquireError::Closed) => return Some(Err(Closed)),
        };
        self.share.readings.fetch_add(readings, Relaxed);
        Some(Ok(Room { permit, share: Arc::clone(&self.share) }))
    }

    fn leaves_enough(&self, readings: u32) -> bool {
        let has = self.share.readings.load(Relaxed);
        has == 0 || has.saturating_add(readings) as usize <= self.queue.room.available_permits()
    }

    /// Appends a batch that has room for so many readings, of which who takes it is to be [told](Seat::announce).
    pub(super) fn push(&self, readings: usize, batch: T) -> Result<(), Closed> {
        let mut waiting = self.queue.waiting();
        if waiting.is_closed {
            return Err(Closed);
        }
        waiting.turns.push(self.flow, u32::try_from(readings).unwrap_or(u32::MAX), batch);
        Ok(())
    }

    /// Wakes who takes what waits.
    pub(super) fn announce(&self) {
        self.queue.arrived.notify_one();
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting();
        let Some(gateway) = waiting.gateways.get_mut(&self.gateway) else { return };
        gateway.seats -= 1;
        if gateway.seats == 0 {
            waiting.gateways.remove(&self.gateway);
            waiting.turns.leave(self.flow);
        }
    }
}

// === impl Room ===

impl Drop for Room {
    fn drop(&mut self) {
        let readings = u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX);
        self.share.readings.fetch_sub(readings, Relaxed);
        self.share.less.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, task::Poll};

    use super::*;

    fn id(id: &str) -> VehicleId {
        VehicleId::new(id).expect("an id")
    }

    /// What is there at once.
    async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(found) => Poll::Ready(Some(found)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn gateways_that_fill_it_leave_room_for_another() {
        let queue = Arc::new(Queue::<()>::new(1_000));
        let mut rooms = Vec::new();
        for greedy in ["a", "b", "c"] {
            let seat = queue.sit(&id(greedy));
            while let Some(room) = now(seat.room(10)).await {
                rooms.push(room.expect("it is open"));
            }
        }
        // 500, half of what was left of it, and so on.
        assert_eq!(rooms.len(), 50 + 25 + 13);
        let another = queue.sit(&id("another"));
        assert!(now(another.room(100)).await.is_some());
    }

    #[tokio::test]
    async fn a_batch_as_large_as_the_queue_waits_until_it_is_empty() {
        let queue = Arc::new(Queue::<()>::new(100));
        let (one, other) = (queue.sit(&id("one")), queue.sit(&id("other")));
        let small = one.room(1).await.expect("it is open");
        let mut large = pin!(other.room(5_000));
        assert!(now(large.as_mut()).await.is_none());
        drop(small);
        assert!(now(large).await.is_some());
        assert!(queue.saturation() < 0.01, "what was asked for was given back");
    }

    #[tokio::test]
    async fn room_that_is_given_back_is_noticed() {
        let queue = Arc::new(Queue::<()>::new(100));
        let seat = queue.sit(&id("one"));
        let held = seat.room(50).await.expect("it is open");
        let mut more = pin!(seat.room(50));
        assert!(now(more.as_mut()).await.is_none());
        drop(held);
        assert!(now(more).await.is_some());
    }

    #[tokio::test]
    async fn what_was_there_when_it_closed_is_taken() {
        let queue = Arc::new(Queue::new(100));
        let seat = queue.sit(&id("one"));
        for number in 0..3 {
            assert!(seat.push(1, number).is_ok());
        }
        queue.close();
        assert!(seat.push(1, 3).is_err());
        drop(seat);
        assert_eq!(queue.take(|number| *number < 1).await, Some(vec![0, 1]));
        assert_eq!(queue.take(|_| true).await, Some(vec![2]));
        assert_eq!(queue.take(|_| true).await, None);
    }

    #[tokio::test]
    async fn sessions_of_one_gateway_have_one_turn_together() {
        let queue = Arc::new(Queue::new(10_000));
        let (flood, again) = (queue.sit(&id("flood")), queue.sit(&id("flood")));
        let other = queue.sit(&id("other"));
        for _ in 0..50 {
            for seat in [&flood, &again] {
                assert!(seat.push(64, "flood").is_ok());
            }
            assert!(other.push(64, "other").is_ok());
        }
        let mut count = 0;
        let goes_on = |_: &&str| {
            count += 1;
            count < 40
        };
        let taken = queue.take(goes_on).await.expect("something");
        let others = taken.iter().filter(|who| **who == "other").count();
        assert!((16..=24).contains(&others), "{others} of 40");
    }
}
