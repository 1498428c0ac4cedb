package arch

import "testing"

// report fails the test with one line for each fault.
func report(t *testing.T, bad []string) {
	t.Helper()
	for _, b := range bad {
		t.Error(b)
	}
}

func TestImportsGoDownOnly(t *testing.T)             { report(t, checkFloors(repository(t))) }
func TestProgramsShareOnlyPkg(t *testing.T)          { report(t, checkRoles(repository(t))) }
func TestEachLibraryHasItsOwner(t *testing.T)        { report(t, checkOwners(repository(t))) }
func TestNothingThatShipsImportsTests(t *testing.T)  { report(t, checkTestOnly(repository(t))) }
func TestThePureCoreIsPure(t *testing.T)             { report(t, checkPure(repository(t))) }
func TestImportingAPackageDoesNothing(t *testing.T)  { report(t, checkStart(repository(t))) }
func TestTestsSleepInVirtualTimeOnly(t *testing.T)   { report(t, checkSleep(repository(t))) }
func TestEveryPackageSaysWhatItIsFor(t *testing.T)   { report(t, checkComments(repository(t))) }
func TestNoFileNamesAPathOfSomeMachine(t *testing.T) { report(t, checkPaths(repository(t))) }
func TestEveryDependencyIsExplained(t *testing.T)    { report(t, checkDependencies(repository(t))) }

func TestFilesSayOneThing(t *testing.T) {
	bad, long := checkSize(repository(t))
	for _, l := range long {
		t.Log("warning: " + l)
	}
	report(t, bad)
}
