// Package neo reads the folder that SageMaker Neo's compiler leaves: it tells
// which file plays which part and what compiled.meta says of the model.
//
// The rules for names are those of neo-ai-dlr 1.10, the runtime these folders
// were made for, because a folder that it would open differently is a folder
// whose answers differ. The package runs nothing and imports no native code.
package neo
