# A wheel includes the OpenMP runtime in fastrnn/lib, under its own name, so the loader can use a copy that is already
# in the process: two copies would spin on the same cores
# (docs/decisions/0011-wheels-carry-openmp-under-its-own-name.md). Sets carried_openmp_paths, where the extension finds
# the runtime.
if(APPLE)
  # macOS identifies a library by its path. The extension looks first into an installed torch, in either import order.
  set(carried_openmp_paths "@loader_path/../torch/lib;@loader_path/lib")
  list(GET OpenMP_C_LIB_NAMES 0 name)
  set(carried_openmp ${CMAKE_CURRENT_BINARY_DIR}/libomp.dylib)
  file(REAL_PATH "${OpenMP_${name}_LIBRARY}" runtime)
  configure_file(${runtime} ${carried_openmp} COPYONLY)
  file(CHMOD ${carried_openmp} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  execute_process(COMMAND install_name_tool -id @rpath/libomp.dylib ${carried_openmp} COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND codesign --force --sign - ${carried_openmp} COMMAND_ERROR_IS_FATAL ANY)
  set_property(TARGET OpenMP::OpenMP_C PROPERTY INTERFACE_LINK_LIBRARIES ${carried_openmp})
  install(PROGRAMS ${carried_openmp} DESTINATION fastrnn/lib)
  install(FILES licenses/libomp.txt DESTINATION fastrnn/lib)
elseif(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  set(carried_openmp_paths "$ORIGIN/lib")
  execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=libgomp.so.1
    OUTPUT_VARIABLE carried_openmp OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  file(REAL_PATH "${carried_openmp}" carried_openmp)
  if(NOT EXISTS "${carried_openmp}")
    message(FATAL_ERROR "FASTRNN_CARRY_OPENMP: the compiler does not know where libgomp.so.1 is.")
  endif()
  install(PROGRAMS ${carried_openmp} DESTINATION fastrnn/lib RENAME libgomp.so.1)
  install(FILES licenses/libgomp.txt DESTINATION fastrnn/lib)
else()
  message(FATAL_ERROR "FASTRNN_CARRY_OPENMP: expected GCC on Linux, or macOS.")
endif()
