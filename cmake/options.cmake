# Language, warnings, and the helper that declares one folder of src/ as one target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/archive)

set(SHUNT_SANITIZE "" CACHE STRING "Value for -fsanitize=, e.g. address,undefined or thread")

add_library(shunt_options INTERFACE)
target_include_directories(shunt_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(shunt_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror -fvisibility=hidden
  -fno-omit-frame-pointer)
if(SHUNT_SANITIZE)
  target_compile_options(shunt_options INTERFACE -fsanitize=${SHUNT_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(shunt_options INTERFACE -fsanitize=${SHUNT_SANITIZE})
endif()

# Code that runs inside other people's programs: it never throws and brings no C++ runtime.
add_library(shunt_guest_options INTERFACE)
target_link_libraries(shunt_guest_options INTERFACE shunt_options)
target_compile_options(shunt_guest_options INTERFACE -fno-exceptions -fno-rtti)

# shunt_layer(NAME [GUEST] DEPENDS layer...): every .cc of this folder and its rooms except *_test.cc.
function(shunt_layer name)
  cmake_parse_arguments(ARG "GUEST" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$|_main\\.cc$")
  list(TRANSFORM ARG_DEPENDS PREPEND shunt_)
  if(sources)
    add_library(shunt_${name} STATIC ${sources})
    if(ARG_GUEST)
      target_link_libraries(shunt_${name} PRIVATE shunt_guest_options PUBLIC ${ARG_DEPENDS})
    else()
      target_link_libraries(shunt_${name} PRIVATE shunt_options PUBLIC ${ARG_DEPENDS})
    endif()
    target_include_directories(shunt_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  else()
    add_library(shunt_${name} INTERFACE)
    target_link_libraries(shunt_${name} INTERFACE ${ARG_DEPENDS})
    target_include_directories(shunt_${name} INTERFACE ${CMAKE_SOURCE_DIR}/src)
  endif()
endfunction()

# Tests are compiled more often than they run: less of what takes the compiler long.
add_library(shunt_test_options INTERFACE)
target_compile_options(shunt_test_options INTERFACE -O1 -g1)
target_link_libraries(shunt_test_options INTERFACE shunt_options)

# Builds every unit test and nothing else: what the sanitizer presets need.
add_custom_target(unit_tests)

# shunt_unit_tests(NAME DEPENDS layer...): every *_test.cc of this folder and its rooms, one executable.
function(shunt_unit_tests name)
  if(NOT BUILD_TESTING)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(NOT tests)
    return()
  endif()
  find_package(GTest REQUIRED)
  include(GoogleTest)
  list(TRANSFORM ARG_DEPENDS PREPEND shunt_)
  add_executable(${name}_test ${tests})
  target_link_libraries(${name}_test PRIVATE shunt_test_options ${ARG_DEPENDS} GTest::gtest_main)
  # gtest's header takes as long as a test of average length: it is compiled once, for the first folder's tests.
  get_property(first GLOBAL PROPERTY SHUNT_FIRST_UNIT_TESTS)
  if(first)
    target_precompile_headers(${name}_test REUSE_FROM ${first})
  else()
    set_property(GLOBAL PROPERTY SHUNT_FIRST_UNIT_TESTS ${name}_test)
    target_precompile_headers(${name}_test PRIVATE <gtest/gtest.h>)
  endif()
  add_dependencies(unit_tests ${name}_test)
  gtest_discover_tests(${name}_test TEST_PREFIX "unit.${name}." PROPERTIES TIMEOUT 120 LABELS unit)
endfunction()
