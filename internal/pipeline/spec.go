package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/compile"
)

// Spec is a pipeline's file, complete and validated when it comes from Load. The yaml tags are the keys of the file;
// example.yaml documents them with their defaults.
type Spec struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`

	Dataset  Dataset  `yaml:"dataset"`
	Training Training `yaml:"training"`
	Compile  []Target `yaml:"compile"`
	Baseline Baseline `yaml:"baseline"`
	Package  Package  `yaml:"package"`
	Sign     Sign     `yaml:"sign"`
	Bucket   Bucket   `yaml:"bucket"`

	AWS       cloud.Options `yaml:"aws"`
	SageMaker SageMaker     `yaml:"sagemaker"`
}

// Dataset says where the rows are. Each of them is a file, or a folder of files.
type Dataset struct {
	Train      string `yaml:"train"`
	Validation string `yaml:"validation"`
	Format     string `yaml:"format"`
	Features   int    `yaml:"features"`
}

// Training says how a model is made of them.
type Training struct {
	// Source is a folder with a program in script mode; empty: the algorithm that the container has built in.
	Source string `yaml:"source"`
	Script string `yaml:"script"`
	Python string `yaml:"python"`

	Hyperparameters map[string]string `yaml:"hyperparameters"`
	Model           string            `yaml:"model"`

	Framework string        `yaml:"framework_version"`
	Image     string        `yaml:"image"`
	Instance  string        `yaml:"instance_type"`
	Count     int           `yaml:"instance_count"`
	Volume    config.Size   `yaml:"volume"`
	MaxTime   time.Duration `yaml:"max_runtime"`
	Spot      bool          `yaml:"spot"`
	MaxWait   time.Duration `yaml:"max_wait"`
}

// Target is one build of the model.
type Target struct {
	Variant string `yaml:"variant"`
	With    string `yaml:"with"`
	Needs   string `yaml:"needs"`

	// Of this machine's compiler.
	Target string `yaml:"target"`
	Engine string `yaml:"engine"`

	// Of Neo.
	Device      string        `yaml:"device"`
	Platform    string        `yaml:"platform"`
	Options     string        `yaml:"options"`
	Framework   string        `yaml:"framework"`
	FrameworkAt string        `yaml:"framework_version"`
	Input       string        `yaml:"input"`
	MaxTime     time.Duration `yaml:"max_runtime"`
}

// Baseline says whether and how the package tells what the training set was like.
type Baseline struct {
	Enabled bool     `yaml:"enabled"`
	Header  bool     `yaml:"header"`
	Drop    []string `yaml:"drop"`
	Score   string   `yaml:"score"`
}

// Package says what is made.
type Package struct {
	Directory string `yaml:"directory"`
	Rows      string `yaml:"rows"`
	Warmup    bool   `yaml:"warmup"`
}

// Sign says who signs it; nobody without a key.
type Sign struct {
	Key          string   `yaml:"key"`
	Certificates []string `yaml:"certificates"`
}

// Bucket is where everything lies in S3.
type Bucket struct {
	Name     string `yaml:"name"`
	Prefix   string `yaml:"prefix"`
	Packages string `yaml:"packages"`
	KMSKey   string `yaml:"kms_key"`
}

// SageMaker is how jobs are started there.
type SageMaker struct {
	Role           string            `yaml:"role"`
	Endpoint       string            `yaml:"endpoint"`
	Poll           time.Duration     `yaml:"poll"`
	Patience       time.Duration     `yaml:"patience"`
	Isolated       bool              `yaml:"network_isolation"`
	Subnets        []string          `yaml:"subnets"`
	SecurityGroups []string          `yaml:"security_groups"`
	Tags           map[string]string `yaml:"tags"`
}

// What Target.With may be.
const (
	withNeo   = "neo"
	withLocal = "local"
)

// Formats of datasets, and what they are called in a request.
var formats = map[string]string{"csv": "text/csv", "parquet": "application/x-parquet", "libsvm": "text/libsvm"}

// Default is what a file that says nothing else means.
func Default() *Spec {
	return &Spec{
		Dataset: Dataset{Format: "csv"},
		Training: Training{
			Script: "train.py", Python: "python3", Hyperparameters: map[string]string{},
			Framework: "1.7-1", Instance: "ml.m5.xlarge", Count: 1, Volume: 30 << 30, MaxTime: 24 * time.Hour,
		},
		Package:   Package{Directory: "packages", Warmup: true},
		SageMaker: SageMaker{Poll: 15 * time.Second, Patience: 24 * time.Hour, Tags: map[string]string{}},
	}
}

// defaultTarget completes one.
func (t *Target) complete() {
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	if t.With == withLocal {
		set(&t.Target, hostTarget())
		set(&t.Engine, compile.EngineBranches)
		set(&t.Variant, t.Target)
		return
	}
	set(&t.Framework, "XGBOOST")
	if t.MaxTime == 0 {
		t.MaxTime = 15 * time.Minute
	}
	set(&t.Variant, "neo-"+strings.NewReplacer("_", "-", "/", "-").Replace(strings.ToLower(t.Device+t.Platform)))
}

func hostTarget() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64"
	}
	return "x86-64"
}

// Load reads the file of a pipeline. Its paths are made absolute: they are relative to the file. The error has one line per
// mistake.
func Load(path string) (*Spec, error) {
	s := Default()
	document, err := config.ReadDocument(path, s)
	if err != nil {
		return nil, err
	}
	if len(s.Compile) == 0 && !document.Gives("compile") {
		s.Compile = []Target{{With: withLocal}}
	}
	for i := range s.Compile {
		s.Compile[i].complete()
	}
	v := &validation{spec: s, at: document.Mistake}
	v.all()
	if err := errors.Join(v.mistakes...); err != nil {
		return nil, err
	}
	return s, s.locate(path)
}

// locate makes the paths of the file absolute.
func (s *Spec) locate(file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("finding the folder of the pipeline's file: %w", err)
	}
	paths := []*string{&s.Dataset.Train, &s.Dataset.Validation, &s.Training.Source, &s.Package.Directory, &s.Package.Rows, &s.Sign.Key}
	paths = append(paths, &s.AWS.CABundle, &s.AWS.RoleAlias.Certificate, &s.AWS.RoleAlias.Key, &s.AWS.RoleAlias.CA)
	for i := range s.Sign.Certificates {
		paths = append(paths, &s.Sign.Certificates[i])
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(file), *p)
		}
	}
	return nil
}

// validation collects what is wrong with the values of a file.
type validation struct {
	spec     *Spec
	at       func(path, format string, args ...any) error
	mistakes []error
}

func (v *validation) add(path, format string, args ...any) {
	v.mistakes = append(v.mistakes, v.at(path, format, args...))
}

func (v *validation) oneOf(path, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		v.add(path, "%q is not known, it may be %s", value, strings.Join(allowed, ", "))
	}
}

func (v *validation) matches(path, value string, pattern *regexp.Regexp, what string) {
	if value != "" && !pattern.MatchString(value) {
		v.add(path, "%q is not %s", value, what)
	}
}

func (v *validation) within(path string, value, least, most time.Duration) {
	if value < least || value > most {
		v.add(path, "%v is outside %v to %v", value, least, most)
	}
}

// Forms of AWS, for what would be refused only after the dataset was uploaded.
var (
	roleARN       = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[a-zA-Z0-9+=,.@_/-]+$`)
	instanceType  = regexp.MustCompile(`^ml\.[a-z0-9-]+\.[a-z0-9-]+$`)
	bucketName    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	keyPrefix     = regexp.MustCompile(`^[a-zA-Z0-9_.=-]+(/[a-zA-Z0-9_.=-]+)*$`)
	frameworkForm = regexp.MustCompile(`^[0-9]+\.[0-9]+(-[0-9]+)?$`)
	neoFramework  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)
	parameterName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,255}$`)
	fileName      = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*$`)
	neoDevice     = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	neoPlatform   = regexp.MustCompile(`^(ANDROID|LINUX)/(X86_64|X86|ARM64|ARM_EABI|ARM_EABIHF)(/(INTEL_GRAPHICS|MALI|NVIDIA|NNA))?$`)
	packagesForm  = regexp.MustCompile(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[a-zA-Z0-9_./=-]*$`)
)

const (
	maxTargets         = packaging.MaxVariants
	maxHyperparameters = 100
	maxParameter       = 2500 // what a hyperparameter may have at SageMaker
)

func (v *validation) all() {
	s := v.spec
	if err := packaging.CheckName(s.Name); err != nil {
		v.add("name", "%v", err)
	}
	if err := packaging.CheckVersion(s.Version); err != nil {
		v.add("version", "%v", err)
	}
	v.dataset(&s.Dataset)
	v.training(&s.Training)
	v.targets(s.Compile)
	if s.Baseline.Enabled && s.Dataset.Format == "libsvm" {
		v.add("baseline.enabled", "is for datasets in csv or parquet")
	}
	if s.Package.Directory == "" {
		v.add("package.directory", "is empty: the package has to be put somewhere")
	}
	if s.Package.Rows != "" && !s.Package.Warmup {
		v.add("package.rows", "excludes package.warmup: false")
	}
	if len(s.Sign.Certificates) > 0 && s.Sign.Key == "" {
		v.add("sign.certificates", "needs sign.key")
	}
	v.cloud(s)
}

func (v *validation) dataset(d *Dataset) {
	if d.Train == "" {
		v.add("dataset.train", "is missing: name a file or a folder of rows")
	}
	v.oneOf("dataset.format", d.Format, slices.Sorted(maps.Keys(formats)))
	if d.Features < 0 || d.Features > 1<<20 {
		v.add("dataset.features", "%d is outside 0 to %d", d.Features, 1<<20)
	}
}

func (v *validation) training(t *Training) {
	v.matches("training.script", t.Script, fileName, "the name of a file in training.source")
	if t.Script == "" {
		v.add("training.script", "is empty")
	}
	if t.Python == "" {
		v.add("training.python", "is empty: name the program that makes the virtual environment")
	}
	v.matches("training.model", t.Model, fileName, "the name of a file")
	v.matches("training.framework_version", t.Framework, frameworkForm, "a version of the XGBoost container, such as 1.7-1")
	v.matches("training.instance_type", t.Instance, instanceType, "an instance type of SageMaker, such as ml.m5.xlarge")
	if t.Count < 1 || t.Count > 100 {
		v.add("training.instance_count", "%d is outside 1 to 100", t.Count)
	}
	if t.Volume < 1<<30 || t.Volume > 16384<<30 || t.Volume%(1<<30) != 0 {
		v.add("training.volume", "%v is not a whole number of GiB from 1GiB to 16384GiB", t.Volume)
	}
	v.within("training.max_runtime", t.MaxTime, time.Minute, 28*24*time.Hour)
	if t.Spot && t.MaxWait < t.MaxTime {
		v.add("training.max_wait", "%v is less than training.max_runtime: with spot it is that and the time to wait for an instance", t.MaxWait)
	}
	if !t.Spot && t.MaxWait != 0 {
		v.add("training.max_wait", "is for training.spot: true")
	}
	if len(t.Hyperparameters) > maxHyperparameters {
		v.add("training.hyperparameters", "has %d keys, at most %d are allowed", len(t.Hyperparameters), maxHyperparameters)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Hyperparameters)) {
		path := "training.hyperparameters." + name
		v.matches(path, name, parameterName, "the name of a hyperparameter")
		if len(t.Hyperparameters[name]) > maxParameter {
			v.add(path, "is longer than %d bytes", maxParameter)
		}
		if strings.HasPrefix(name, "sagemaker_") {
			v.add(path, "is for SageMaker's own use")
		}
	}
}

func (v *validation) targets(list []Target) {
	if len(list) == 0 {
		v.add("compile", "is empty: name at least one target, with: local or with: neo")
	}
	if len(list) > maxTargets {
		v.add("compile", "has %d entries, a package has at most %d variants", len(list), maxTargets)
	}
	seen := map[string]bool{}
	for i := range list {
		t, path := &list[i], fmt.Sprintf("compile[%d]", i)
		switch t.With {
		case withLocal:
			v.local(t, path)
		case withNeo:
			v.neo(t, path)
		default:
			v.oneOf(path+".with", t.With, []string{withLocal, withNeo})
			continue
		}
		v.matches(path+".variant", t.Variant, fileName, "the name of a variant")
		if seen[t.Variant] {
			v.add(path+".variant", "%q is the name of two", t.Variant)
		}
		seen[t.Variant] = true
		if t.Needs != "" {
			if err := assemble.AddNeeds(&packaging.Requires{}, t.Needs); err != nil {
				v.add(path+".needs", "%v", err)
			}
		}
	}
}

func (v *validation) local(t *Target, path string) {
	v.oneOf(path+".target", t.Target, compile.Targets())
	v.oneOf(path+".engine", t.Engine, engineNames())
	for key, value := range map[string]string{"device": t.Device, "platform": t.Platform, "options": t.Options, "framework": t.Framework, "framework_version": t.FrameworkAt, "input": t.Input} {
		if value != "" {
			v.add(path+"."+key, "is for with: neo")
		}
	}
}

func (v *validation) neo(t *Target, path string) {
	if (t.Device == "") == (t.Platform == "") {
		v.add(path, "needs a device, such as ml_c5, or a platform, such as LINUX/X86_64, and not both")
	}
	v.matches(path+".device", t.Device, neoDevice, "a target device of Neo, such as ml_c5")
	v.matches(path+".platform", t.Platform, neoPlatform, "OS/ARCHITECTURE or OS/ARCHITECTURE/ACCELERATOR of Neo, such as LINUX/X86_64")
	v.matches(path+".framework_version", t.FrameworkAt, neoFramework, "a version")
	v.oneOf(path+".framework", t.Framework, []string{"DARKNET", "KERAS", "MXNET", "ONNX", "PYTORCH", "SKLEARN", "TENSORFLOW", "TFLITE", "XGBOOST"})
	if t.Options != "" && !isJSON(t.Options) {
		v.add(path+".options", "is not JSON, such as {\"mcpu\": \"skylake-avx512\"}")
	}
	if t.Input != "" && !isJSON(t.Input) {
		v.add(path+".input", "is not JSON, such as {\"data\": [1, 24]}")
	}
	v.within(path+".max_runtime", t.MaxTime, time.Minute, 28*24*time.Hour)
	for key, value := range map[string]string{"target": t.Target, "engine": t.Engine} {
		if value != "" {
			v.add(path+"."+key, "is for with: local")
		}
	}
}

// cloud looks at what is only needed for AWS as far as it is given; what has to be given is asked when it is needed.
func (v *validation) cloud(s *Spec) {
	s.AWS.Check(func(key, sentence string) { v.mistakes = append(v.mistakes, v.at("aws."+key, "%s", sentence)) })
	v.matches("bucket.name", s.Bucket.Name, bucketName, "the name of a bucket")
	v.matches("bucket.prefix", s.Bucket.Prefix, keyPrefix, "a prefix: words of letters, digits, ., _, = and - with / between them")
	v.matches("bucket.packages", s.Bucket.Packages, packagesForm, "of the form s3://BUCKET/PREFIX/")
	v.matches("sagemaker.role", s.SageMaker.Role, roleARN, "the ARN of a role")
	v.within("sagemaker.poll", s.SageMaker.Poll, 10*time.Millisecond, time.Hour)
	v.within("sagemaker.patience", s.SageMaker.Patience, time.Second, 28*24*time.Hour)
	if (len(s.SageMaker.Subnets) == 0) != (len(s.SageMaker.SecurityGroups) == 0) {
		v.add("sagemaker.subnets", "and sagemaker.security_groups need each other")
	}
	if len(s.SageMaker.Tags) > 45 {
		v.add("sagemaker.tags", "has %d tags, at most 45 are allowed", len(s.SageMaker.Tags))
	}
}

// needsAWS says what the file lacks for running at SageMaker.
func (s *Spec) needsAWS() error {
	var missing []string
	for key, value := range map[string]string{"aws.region": s.AWS.Region, "bucket.name": s.Bucket.Name, "sagemaker.role": s.SageMaker.Role} {
		if value == "" {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("the file does not give %s, which SageMaker needs; --local needs none of it", strings.Join(missing, ", "))
}

func engineNames() []string {
	var names []string
	for _, e := range assemble.Engines() {
		names = append(names, e.Name)
	}
	return names
}
