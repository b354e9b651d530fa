"""`shunt run`: the program it becomes, and every line with which it refuses."""

import os
import pathlib
import shutil
import unittest

from cli_testing import IS_ROOT, STAND_IN, STRANGER, SHUNT, CliTestCase

SHELL = pathlib.Path("/bin/sh").read_bytes()


class RunTest(CliTestCase):
    def test_becomes_the_program(self):
        result = self.shunt("run", "--", "sh", "-c", 'echo "$1|$2|$#"; exit 7', "sh", "", "--help")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (7, "|--help|2\n", ""))

    def test_loads_the_provider(self):
        maps = self.assert_succeeds(self.shunt("run", "cat", "/proc/self/maps"))
        self.assertIn(os.path.realpath(STAND_IN), maps)

    def test_environment(self):
        window = self.make_window()
        result = self.run_command(SHUNT, "run", "--window", f"{window}/", "--partition", "b", "--require",
                                  "--", "env", SHUNT_LIBRARY=STAND_IN, LD_PRELOAD="libm.so.6")
        self.assertEqual(result.returncode, 0, result)
        environment = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
        self.assertEqual(environment["LD_PRELOAD"], f"{os.path.realpath(STAND_IN)}:libm.so.6")
        self.assertEqual(environment["SHUNT_WINDOW"], str(window))
        self.assertEqual(environment["SHUNT_PARTITION"], "b")
        self.assertEqual(environment["SHUNT_REQUIRE"], "1")

    def test_relative_window_becomes_absolute(self):
        window = self.make_window()
        result = self.shunt("run", "--window", os.path.relpath(window), "--partition", "a", "env")
        self.assertIn(f"SHUNT_WINDOW={window}\n", result.stdout)

    def test_warns_in_one_line_when_the_driver_is_down(self):
        result = self.shunt("run", "--window", self.make_window(), "--partition", "a", "--", "echo", "on")
        self.assertEqual((result.returncode, result.stdout), (0, "on\n"))
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn("warning: the driver of partition 'a' is not running", result.stderr)

    def test_window_that_somebody_else_could_exchange(self):
        for window, parts in self.untrusted_places():
            self.assert_fails(self.shunt("run", "--window", window, "--partition", "a", "--", "echo", "on"), 125,
                              "shunt run: ", *parts)
        result = self.shunt("run", "--window", self.dir / "w", "--partition", "a", "--", "echo", "on")
        self.assertEqual((result.returncode, result.stdout), (0, "on\n"), "a sticky directory is as /tmp")

    @unittest.skipUnless(IS_ROOT, "another user's view of root's window")
    def test_window_of_root_is_used_by_others(self):
        window = self.make_window()
        os.chmod(self.dir, 0o755)
        words = ("run", "--window", window, "--partition", "a", "--", "id", "-u")
        result = self.run_command(SHUNT, *words, user=STRANGER, SHUNT_LIBRARY=STAND_IN)
        self.assertEqual((result.returncode, result.stdout), (0, f"{STRANGER}\n"), result)

    def test_nested_run_names_the_provider_once(self):
        result = self.run_command(SHUNT, "run", "--", SHUNT, "run", "--", "env", SHUNT_LIBRARY=STAND_IN)
        self.assertIn(f"LD_PRELOAD={os.path.realpath(STAND_IN)}\n", result.stdout)

    def test_no_program(self):
        self.assert_fails(self.shunt("run"), 125, "shunt run: ", "behind --")
        self.assert_fails(self.shunt("run", "--nonsense"), 125, "--nonsense", "shunt run --help")

    def test_program_not_found(self):
        self.assert_fails(self.shunt("run", "--", "no-such-program"), 127, "'no-such-program'", "PATH")
        self.assert_fails(self.shunt("run", "--", self.dir / "none"), 127, self.dir / "none", "no such file")

    def test_program_not_executable(self):
        plain = self.make_program("plain", b"text", 0o644)
        self.assert_fails(self.shunt("run", "--", plain), 126, plain, "not executable")
        self.assert_fails(self.shunt("run", "--", self.dir), 126, self.dir, "directory")

    def test_setuid_and_setgid_program(self):
        # Copied under the mode that a distribution gives to such a program.
        setuid = self.make_program("setuid", SHELL, 0o4755)
        self.assert_fails(self.shunt("run", "--", setuid), 126, setuid, "setuid", "loader drops the provider")
        setgid = self.make_program("setgid", SHELL, 0o2755)
        self.assert_fails(self.shunt("run", "--", setgid), 126, setgid, "setgid", "loader drops the provider")

    @unittest.skipUnless(shutil.which("ldconfig.real") or os.path.exists("/sbin/ldconfig"), "no static program")
    def test_static_program(self):
        for program in ("/sbin/ldconfig.real", "/sbin/ldconfig"):
            if os.path.exists(program) and pathlib.Path(program).read_bytes()[:4] == b"\177ELF":
                self.assert_fails(self.shunt("run", "--", program), 126, program, "statically linked")
                return
        self.skipTest("no static program here")

    def test_program_for_another_machine(self):
        foreign = bytearray(SHELL)
        foreign[18] = 0xF3  # e_machine: RISC-V
        path = self.make_program("foreign", bytes(foreign), 0o755)
        self.assert_fails(self.shunt("run", "--", path), 126, path, "another machine")

    def test_script_without_its_interpreter(self):
        script = self.make_program("script", b"#!/no/such/interpreter\n", 0o755)
        self.assert_fails(self.shunt("run", "--", script), 126, script, "/no/such/interpreter", "missing")

    def test_provider_missing(self):
        result = self.run_command(SHUNT, "run", "--", "true", SHUNT_LIBRARY="/no/libshunt.so")
        self.assert_fails(result, 125, "/no/libshunt.so", "SHUNT_LIBRARY")
        alone = self.dir / "shunt"
        shutil.copy(SHUNT, alone)
        result = self.run_command(alone, "run", "--", "true")
        if result.returncode != 0:  # unless one is installed on this machine
            self.assert_fails(result, 125, "libshunt.so", "install")

    def test_window_and_partition_belong_together(self):
        window = self.make_window()
        self.assert_fails(self.shunt("run", "--window", window, "--", "true"), 125, window, "--partition")
        self.assert_fails(self.shunt("run", "--partition", "a", "--", "true"), 125, "'a'", "--window")

    def test_bad_window(self):
        def run_in(window, partition="a"):
            return self.shunt("run", "--window", window, "--partition", partition, "--", "echo", "ran")

        self.assert_fails(run_in("/no/window"), 125, "/no/window", "no such directory")
        (self.dir / "empty").mkdir()
        self.assert_fails(run_in(self.dir / "empty"), 125, "not a window")
        window = self.make_window()
        self.assert_fails(run_in(window, "x"), 125, window, "no partition 'x'", "a, b")


if __name__ == "__main__":
    unittest.main()
