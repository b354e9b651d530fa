#include "sockets/thread/cancel.h"

// What pthread_cleanup_push was before it became a macro around exceptions or setjmp. libc keeps these
// records in order with all other clean-up handlers, and minds longjmp() for these alone.
extern "C" void _pthread_cleanup_push(_pthread_cleanup_buffer*, void (*)(void*), void*);
extern "C" void _pthread_cleanup_pop(_pthread_cleanup_buffer*, int);

namespace shunt::sockets {

CleanUp::CleanUp(void (*routine)(void*), void* argument) {
  _pthread_cleanup_push(&record_, routine, argument);
}

CleanUp::~CleanUp() { _pthread_cleanup_pop(&record_, 0); }

CancelPoint::CancelPoint() : record_(&restore, this) {
  // As glibc's own cancellation points do; nothing but one system call follows.
  // NOLINTNEXTLINE(concurrency-thread-canceltype-asynchronous)
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &former_);
}

CancelPoint::~CancelPoint() { restore(this); }

void CancelPoint::restore(void* self) {
  pthread_setcanceltype(static_cast<CancelPoint*>(self)->former_, nullptr);
}

NoCancel::NoCancel() : record_(&restore, this) {
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &former_);
}

NoCancel::~NoCancel() { restore(this); }

void NoCancel::restore(void* self) {
  pthread_setcancelstate(static_cast<NoCancel*>(self)->former_, nullptr);
}

}  // namespace shunt::sockets
