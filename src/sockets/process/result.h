// Answers of the provider that are neither a result nor an errno: no errno has these numbers.
#pragma once

namespace shunt::sockets {

inline constexpr long kNotOurs =
    -4095;  // the descriptor is no longer what it was when the call began: look it up again
inline constexpr long kPassOn = -4094;     // nothing of ours: libc's own call is to answer
inline constexpr long kUseKernel = -4093;  // the kernel is to connect
inline constexpr long kPassToKernel =
    -4092;  // nothing of ours among the descriptors that are waited for

}  // namespace shunt::sockets
