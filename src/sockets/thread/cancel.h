// Blocked calls are cancellation points, as they are in libc.
//
// libc makes a thread asynchronously cancellable for just the system call in which it may sleep, and
// pthread_cancel() reaches a sleeping thread only then. The provider does the same: a CancelPoint
// around each system call in which a call of the program sleeps. Nothing else of the provider can be
// cancelled. No lock of a connection or an epoll set is held there, and nothing is consumed there, so
// no byte is lost between a cancelled call and the next one. (What a send or MSG_WAITALL had moved
// before it slept is moved, and its count lost with the call, as in libc.)
//
// Compiled without exceptions, our destructors do not run while libc unwinds a cancelled thread. What
// a call holds while it sleeps is given back by an Undo instead. libc runs it as well when the program
// leaves the call with longjmp() out of a signal handler, or ends the thread in one. So an Undo ends
// before the same thing is given back in the ordinary way.
//
// A handler that interrupts the sleep runs asynchronously cancellable, as in libc. If it is cancelled
// while it holds a lock of ours, the lock is taken over as that of a killed process is (lock.h).
#pragma once

#include <pthread.h>

namespace shunt::sockets {

// A record on the thread's list of clean-up handlers, for a scope: `routine` is called if the thread
// does not come to the end of it.
class CleanUp {
 public:
  CleanUp(void (*routine)(void*), void* argument);
  ~CleanUp();
  CleanUp(const CleanUp&) = delete;
  CleanUp& operator=(const CleanUp&) = delete;

 private:
  _pthread_cleanup_buffer record_;
};

template <typename Function>
class Undo {
 public:
  explicit Undo(Function function) : function_(function), record_(&run, this) {}
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;

 private:
  static void run(void* self) { static_cast<Undo*>(self)->function_(); }
  Function function_;
  CleanUp record_;
};

// Around nothing but a system call. A cancellation that is pending already is acted on where it begins.
class CancelPoint {
 public:
  CancelPoint();
  ~CancelPoint();
  CancelPoint(const CancelPoint&) = delete;
  CancelPoint& operator=(const CancelPoint&) = delete;

 private:
  static void restore(void* self);
  int former_ = PTHREAD_CANCEL_DEFERRED;
  CleanUp record_;
};

// For calls that are no cancellation points, or must not be one at this moment.
class NoCancel {
 public:
  NoCancel();
  ~NoCancel();
  NoCancel(const NoCancel&) = delete;
  NoCancel& operator=(const NoCancel&) = delete;

 private:
  static void restore(void* self);
  int former_ = PTHREAD_CANCEL_ENABLE;
  CleanUp record_;
};

}  // namespace shunt::sockets
